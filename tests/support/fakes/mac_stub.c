/* CoreAudio, CoreFoundation's strings and the Objective-C runtime, as far as a talk calls them.

They answer by C's rules: sizes are checked as the HAL does, a string is a pointer that must be
released, and a block is called through the layout that clang gives it. */
#include <pthread.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

typedef struct { uint32_t selector, scope, element; } Address;
#define CODE(s) ((uint32_t)(s)[0] << 24 | (uint32_t)(s)[1] << 16 | (uint32_t)(s)[2] << 8 | (s)[3])

typedef struct {
    uint32_t number;
    const char *name, *uid, *transport, *source;
    int inputs, outputs;
    double rate;
} Device;

Device devices[] = {
    {71, "Anna\xe2\x80\x99s AirPods", "AA-BB:input", "blue", 0, 1, 0, 24000},
    {72, "Anna\xe2\x80\x99s AirPods", "AA-BB:output", "blue", 0, 0, 1, 48000},
    {99, "MacBook Pro Microphone", "BuiltInMicrophoneDevice", "bltn", 0, 1, 0, 48000},
    {98, "Broken", "broken", "virt", 0, 1, 1, 0},
    {64, "External Headphones", "BuiltInHeadphoneOutputDevice", "bltn", "hdpn", 0, 1, 44100},
    {65, "Living Room", "airplay", "airp", 0, 0, 1, 44100},
};
#define COUNT (sizeof devices / sizeof *devices)

void *run_loop = (void *)1;
int strings = 0; /* handed out and not released */

static int fill(uint32_t *size, void *out, const void *value, uint32_t bytes) {
    if (*size < bytes) return CODE("!siz");
    memcpy(out, value, bytes);
    *size = bytes;
    return 0;
}

int AudioObjectGetPropertyData(uint32_t object, const Address *a, uint32_t qualifier_size,
                               const void *qualifier, uint32_t *size, void *out) {
    if (a->element || qualifier_size || qualifier) return -1;
    uint32_t value;
    if (object == 1) {
        if (a->scope != CODE("glob")) return -1;
        if (a->selector == CODE("dIn ")) return value = 71, fill(size, out, &value, 4);
        if (a->selector == CODE("dOut")) return value = 64, fill(size, out, &value, 4);
        if (a->selector != CODE("dev#")) return CODE("who?");
        uint32_t numbers[COUNT];
        for (unsigned i = 0; i < COUNT; i++) numbers[i] = devices[i].number;
        return fill(size, out, numbers, sizeof numbers);
    }
    for (unsigned i = 0; i < COUNT; i++) {
        Device *d = &devices[i];
        if (d->number != object) continue;
        if (a->selector == CODE("stm#")) {
            int streams = a->scope == CODE("inpt") ? d->inputs : d->outputs;
            value = 1;
            if (streams) return fill(size, out, &value, 4);
            *size = 0;
            return 0;
        }
        if (a->selector == CODE("ssrc")) {
            if (a->scope != CODE("outp") || !d->source) return CODE("who?");
            return value = CODE(d->source), fill(size, out, &value, 4);
        }
        if (a->scope != CODE("glob")) return CODE("who?");
        if (a->selector == CODE("tran")) return value = CODE(d->transport), fill(size, out, &value, 4);
        if (a->selector == CODE("nsrt")) return fill(size, out, &d->rate, 8);
        const char *text = a->selector == CODE("lnam") ? d->name : a->selector == CODE("uid ") ? d->uid : 0;
        if (!text) return CODE("who?");
        strings++;
        return fill(size, out, &text, sizeof text);
    }
    return CODE("!obj");
}

int AudioObjectSetPropertyData(uint32_t object, const Address *a, uint32_t qualifier_size,
                               const void *qualifier, uint32_t size, const void *data) {
    if (object != 1 || a->selector != CODE("rnlp") || size != sizeof(void *) || !data) return -1;
    run_loop = *(void *const *)data;
    return 0;
}

unsigned char CFStringGetCString(const char *string, char *buffer, long bytes, uint32_t encoding) {
    if (encoding != 0x08000100 || (long)strlen(string) >= bytes) return 0;
    strcpy(buffer, string);
    return 1;
}

void CFRelease(const void *string) {
    (void)string;
    strings--;
}

/* the Objective-C runtime */
void *_NSConcreteGlobalBlock[32];
long status = 0; /* AVAuthorizationStatus */
int grants = 1;
long thermal = 0; /* NSProcessInfoThermalState */
int saves = 0;    /* a BOOL is one byte: what lies above it means nothing */

typedef struct Block {
    void *isa;
    int flags, reserved;
    void (*invoke)(struct Block *, _Bool);
    struct { unsigned long reserved, size; } *descriptor;
} Block;

const char *objc_getClass(const char *name) { return name; }
const char *sel_registerName(const char *name) { return name; }

static void *answer(void *block) {
    usleep(200000);
    status = grants ? 3 : 2;
    ((Block *)block)->invoke(block, grants);
    return 0;
}

long objc_msgSend(const char *self, const char *selector, const char *a, Block *b) {
    if (!strcmp(self, "NSProcessInfo") && !strcmp(selector, "processInfo")) return (long)"info";
    if (!strcmp(self, "info") && !strcmp(selector, "thermalState")) return thermal;
    if (!strcmp(self, "info") && !strcmp(selector, "isLowPowerModeEnabled")) return 0x5500 | saves;
    if (!strcmp(self, "NSString") && !strcmp(selector, "stringWithUTF8String:")) return (long)a;
    if (strcmp(self, "AVCaptureDevice") || strcmp(a, "soun")) return -1;
    if (!strcmp(selector, "authorizationStatusForMediaType:")) return status;
    if (strcmp(selector, "requestAccessForMediaType:completionHandler:")) return -1;
    if (b->isa != _NSConcreteGlobalBlock || b->flags != 1 << 28 || b->descriptor->size != sizeof *b)
        return -1;
    pthread_t thread;
    pthread_create(&thread, 0, answer, b);
    return 0;
}
