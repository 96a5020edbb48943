// The clock, what a process has used, and how long messages took.

#define _GNU_SOURCE
#include "wsload.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

// Latencies are counted in buckets that are at most 1/128 of their value wide, so that every delivery
// counts and none has to be kept.
enum { BITS = 7, STEPS = 1 << BITS, BUCKETS = (64 - BITS + 1) * STEPS };

static uint64_t buckets[BUCKETS];
static uint64_t recorded, largest;

static uint64_t nanoseconds(const struct timespec *time) {
    return (uint64_t)time->tv_sec * NS_PER_S + (uint64_t)time->tv_nsec;
}

uint64_t now_ns(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return nanoseconds(&time);
}

// Processor time of all threads of a process: its clock is finer than the ticks in /proc.
double cpu_s(pid_t pid) {
    clockid_t clock;
    struct timespec time;
    if (clock_getcpuclockid(pid, &clock) != 0 || clock_gettime(clock, &time) != 0)
        die("process %d is gone", (int)pid);
    return (double)nanoseconds(&time) / NS_PER_S;
}

long rss_kb(pid_t pid) {
    char name[64], line[256];
    long kb = -1;
    snprintf(name, sizeof name, "/proc/%d/status", (int)pid);
    FILE *status = fopen(name, "r");
    if (!status)
        die("process %d is gone", (int)pid);
    while (kb < 0 && fgets(line, sizeof line, status))
        sscanf(line, "VmRSS: %ld", &kb);
    fclose(status);
    return kb;
}

static int bucket_of(uint64_t us) {
    if (us < STEPS)
        return (int)us;
    int shift = 63 - __builtin_clzll(us) - BITS;
    return shift * STEPS + (int)(us >> shift);
}

static uint64_t lowest_in(int bucket) {
    if (bucket < 2 * STEPS)
        return (uint64_t)bucket;
    int shift = bucket / STEPS - 1;
    return (uint64_t)(bucket % STEPS + STEPS) << shift;
}

void latency_record(uint64_t ns) {
    uint64_t us = ns / 1000;
    buckets[bucket_of(us)]++;
    recorded++;
    if (us > largest)
        largest = us;
}

void latency_reset(void) {
    memset(buckets, 0, sizeof buckets);
    recorded = largest = 0;
}

// What this share of the deliveries took at most.
uint64_t latency_us(double share) {
    uint64_t below = (uint64_t)((double)recorded * share);
    for (int bucket = 0; bucket < BUCKETS; bucket++) {
        if (buckets[bucket] > below)
            return lowest_in(bucket);
        below -= buckets[bucket];
    }
    return largest;
}

uint64_t latency_max_us(void) {
    return largest;
}
