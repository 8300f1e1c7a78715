/* A PortAudio that misbehaves as asked. It reads $STUB_FOLDER/devices (a line each: name|inputs|
   outputs|rate) when it is initialised and $STUB_FOLDER/whims (key=number) at each opening:

   open_s       seconds that opening takes        refuse       PaError that it returns
   abort_s      the same of stopping              deadlock     stopping never returns
   init_s       the same of being initialised     never_in     no microphone has a callback
   never        no callback comes                 never_low    none comes with low latency
   prints       each callback and the end print   flags        status flags of each callback
   speed        callbacks, times as fast          only_rate    the one rate that is taken
   zeros        the microphone is silent          crash_s      abort() after that time
   channel      the microphone is on this one (from 1), all others are zeros
*/
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

typedef struct {
    int version;
    const char *name;
    int host, inputs, outputs;
    double low_in, low_out, high_in, high_out, rate;
} DeviceInfo;
typedef struct { int version, type; const char *name; int devices, input, output; } HostInfo;
typedef struct { int device, channels; unsigned long format; double latency; void *host; } Parameters;
typedef struct { int version; double input, output, rate; } StreamInfo;
typedef struct { double adc, now, dac; } Times;
typedef int Callback(const void *, void *, unsigned long, const Times *, unsigned long, void *);
typedef struct {
    Callback *call;
    void (*finished)(void *);
    void *user;
    int inputs, outputs, mic, active;
    unsigned long frames, flags;
    double rate, speed, crash_s;
    int never, never_in, prints, zeros;
    pthread_t thread;
    StreamInfo info;
} Stream;

static DeviceInfo devices[32];
static char names[32][64];
static int count;
static HostInfo host = {1, 0, "Stub", 0, -1, -1};

static FILE *file(const char *name) {
    char path[512];
    snprintf(path, sizeof path, "%s/%s", getenv("STUB_FOLDER"), name);
    return fopen(path, "r");
}

static double whim(const char *key) {
    char line[128];
    double value = 0;
    FILE *f = file("whims");
    while (f && fgets(line, sizeof line, f)) {
        size_t n = strlen(key);
        if (!strncmp(line, key, n) && line[n] == '=') value = atof(line + n + 1);
    }
    if (f) fclose(f);
    return value;
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + 1e-9 * t.tv_nsec;
}

static void rest(double s) {
    if (s > 0) usleep((useconds_t)(1e6 * s));
}

int Pa_Initialize(void) {
    char line[128];
    FILE *f = file("devices");
    rest(whim("init_s"));
    count = 0, host.input = host.output = -1;
    while (f && count < 32 && fgets(line, sizeof line, f)) {
        DeviceInfo *d = &devices[count];
        memset(d, 0, sizeof *d);
        d->version = 2, d->name = names[count];
        if (sscanf(line, "%63[^|]|%d|%d|%lf", names[count], &d->inputs, &d->outputs, &d->rate) != 4)
            continue;
        d->low_in = d->low_out = 0.01, d->high_in = d->high_out = 0.1;
        if (d->inputs && host.input < 0) host.input = count;
        if (d->outputs && host.output < 0) host.output = count;
        count++;
    }
    if (f) fclose(f);
    host.devices = count;
    return 0;
}
int Pa_Terminate(void) {
    if (whim("prints")) printf("||PaMacCore (AUHAL)|| terminating\n");
    return 0;
}
int Pa_GetVersion(void) { return 0x130700; }
const char *Pa_GetVersionText(void) { return "stub"; }
const char *Pa_GetErrorText(int error) {
    return error == -9997 ? "Invalid sample rate" : error == -9985 ? "Device unavailable" : "error";
}
int Pa_GetDeviceCount(void) { return count; }
int Pa_GetDefaultInputDevice(void) { return host.input; }
int Pa_GetDefaultOutputDevice(void) { return host.output; }
const DeviceInfo *Pa_GetDeviceInfo(int i) { return i >= 0 && i < count ? &devices[i] : 0; }
int Pa_GetHostApiCount(void) { return 1; }
int Pa_GetDefaultHostApi(void) { return 0; }
const HostInfo *Pa_GetHostApiInfo(int i) { return i ? 0 : &host; }
int Pa_HostApiDeviceIndexToDeviceIndex(int api, int i) { return (void)api, i; }
int Pa_GetSampleSize(unsigned long format) { return format == 1 ? 4 : -9994; }
const void *Pa_GetLastHostErrorInfo(void) { return 0; }

int Pa_OpenStream(Stream **out, const Parameters *in, const Parameters *o, double rate,
                  unsigned long frames, unsigned long flags, Callback *call, void *user) {
    (void)flags;
    rest(whim("open_s"));
    if (whim("refuse")) return (int)whim("refuse");
    if (whim("only_rate") && rate != whim("only_rate")) return -9997;
    if ((in && in->channels > devices[in->device].inputs) ||
        (o && o->channels > devices[o->device].outputs)) return -9998;
    Stream *s = *out = calloc(1, sizeof *s);
    s->call = call, s->user = user, s->rate = rate, s->frames = frames ? frames : 441;
    s->inputs = in ? in->channels : 0, s->outputs = o ? o->channels : 0;
    s->flags = (unsigned long)whim("flags"), s->crash_s = whim("crash_s");
    s->speed = whim("speed") ? whim("speed") : 1;
    double latency = o ? o->latency : in->latency;
    s->never = whim("never") || (whim("never_low") && latency < 0.05);
    s->never_in = whim("never_in") != 0;
    s->never = s->never || (s->never_in && !s->outputs);
    s->prints = whim("prints"), s->zeros = whim("zeros"), s->mic = whim("channel");
    s->info = (StreamInfo){1, 0.02, 0.02, rate};
    return 0;
}

static void *run(void *argument) {
    Stream *s = argument;
    float *in = calloc(s->frames * 64, sizeof *in), *out = calloc(s->frames * 64, sizeof *out);
    double start = now(), due = start;
    for (unsigned long at = 0; s->active; at += s->frames) {
        due += s->frames / s->rate / s->speed;
        rest(due - now());
        if (s->crash_s && now() - start > s->crash_s) abort();
        if (s->never) continue;
        for (unsigned long i = 0; i < s->frames; i++)
            for (int c = 0; c < s->inputs; c++)
                in[i * s->inputs + c] =
                    s->zeros || (s->mic && s->mic != c + 1) ? 0 : 0.1f * (((at + i) / 30) % 2) + 0.01f;
        if (s->prints) printf("||PaMacCore (AUHAL)|| Error on line %d: err='-50'\n", (int)at), fflush(stdout);
        if (s->never_in) memset(in, 0, s->frames * s->inputs * sizeof *in);
        unsigned long flags = s->flags | (s->never_in && s->inputs); /* 1: paInputUnderflow */
        Times times = {now(), now(), now()};
        if (s->call(s->inputs ? in : 0, s->outputs ? out : 0, s->frames, &times, flags, s->user))
            break;
    }
    if (s->finished) s->finished(s->user);
    return 0;
}

int Pa_SetStreamFinishedCallback(Stream *s, void (*finished)(void *)) { return s->finished = finished, 0; }
int Pa_StartStream(Stream *s) {
    s->active = 1;
    return pthread_create(&s->thread, 0, run, s);
}
int Pa_AbortStream(Stream *s) {
    rest(whim("abort_s"));
    while (whim("deadlock")) rest(1);
    s->active = 0;
    return 0;
}
int Pa_StopStream(Stream *s) { return Pa_AbortStream(s); }
int Pa_CloseStream(Stream *s) { return Pa_AbortStream(s); }
int Pa_IsStreamActive(Stream *s) { return s->active; }
int Pa_IsStreamStopped(Stream *s) { return !s->active; }
const StreamInfo *Pa_GetStreamInfo(Stream *s) { return &s->info; }
double Pa_GetStreamTime(Stream *s) { return (void)s, now(); }
