"""The self-test's other half: what microphone, loudspeaker and the sound system really do."""
