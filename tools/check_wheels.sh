#!/usr/bin/env bash
# Can everything be installed from wheels alone, on every platform and Python that we promise?
# Asks uv to resolve, without installing: pip evaluates markers for its own host only and can't.
set -uo pipefail
cd "$(dirname "$0")/.."
export MACOSX_DEPLOYMENT_TARGET=14.0
pythons=${PYTHONS:-3.11 3.12 3.13 3.14}
platforms=${PLATFORMS:-aarch64-apple-darwin x86_64-manylinux_2_35}
failed=0
if ! command -v uv >/dev/null; then
    .venv/bin/python -m pip install -q --disable-pip-version-check uv || exit 1
    PATH="$PWD/.venv/bin:$PATH"
fi
for platform in $platforms; do
    for python in $pythons; do
        if message=$(uv pip compile -q --no-header --only-binary :all: --python-platform "$platform" \
            --python-version "$python" --all-extras pyproject.toml 2>&1); then
            echo "ok    $platform Python $python: $(grep -c == <<<"$message") packages"
        else
            echo "FAIL  $platform Python $python"
            echo "$message"
            failed=1
        fi
    done
done
exit $failed
