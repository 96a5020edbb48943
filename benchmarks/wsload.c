// wsload: a load generator for WebSocket servers on this machine, in one thread.
//
// It counts whole frames as they arrive and reads the time of publication back out of each message, so that its
// figures are of messages that clients really received. It prints them as key=value on one line.
//
//   connect   opens the connections, and tells how many a second and what memory each took
//   fanout    publishes on the first connection what everyone receives, itself included
//   echo      publishes on every connection what comes back there
//
// How long a message took is the time between its publication and the `recv` that brought it.

#define _GNU_SOURCE
#include "wsload/wsload.h"

#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

enum { SMALLEST = 64, LARGEST = 60000, PUMP_MS = 5, PACED_PUMP_MS = 1 };

struct options options = {
    .path = "/ws", .connections = 100, .burst = 200, .window = 1, .size = 128, .warm_up_s = 1, .seconds = 3,
    .settle_s = 0.3,
};
struct totals totals;

_Noreturn void die(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    exit(1);
}

// The totals, and what the server and the generator have used until then

struct snapshot {
    uint64_t at;
    double server_cpu_s, own_cpu_s;
    struct totals totals;
};

static struct snapshot snapshot(void) {
    return (struct snapshot){now_ns(), cpu_s(options.pid), cpu_s(getpid()), totals};
}

static double elapsed_s(const struct snapshot *from, const struct snapshot *to) {
    return (double)(to->at - from->at) / NS_PER_S;
}

// Opening

static void pump_for(double seconds) {
    uint64_t end = now_ns() + (uint64_t)(seconds * NS_PER_S);
    while (now_ns() < end)
        pump(PUMP_MS);
}

static void open_connections(struct connection *connections) {
    long rss = rss_kb(options.pid);
    struct snapshot before = snapshot();
    connections_open(connections);
    struct snapshot after = snapshot();
    pump_for(options.settle_s);
    double seconds = elapsed_s(&before, &after);
    printf("ready=%d dead=%d handshakes_per_s=%.0f handshake_load_cpu=%.3f kb_per_connection=%.3f", totals.ready,
           totals.dead, after.totals.ready / seconds, (after.own_cpu_s - before.own_cpu_s) / seconds,
           (double)(rss_kb(options.pid) - rss) / options.connections);
}

// Publishing

static void fill_window(struct connection *publisher) {
    while (publisher->state == READY && publisher->in_flight < options.window)
        publish(publisher);
}

// Publishes what is due. One that is late has its own time, not that at which it was due: the generator is late, the
// server is not.
static void keep_pace(struct connection *publisher, uint64_t *due) {
    while (publisher->state == READY && *due <= now_ns()) {
        publish(publisher);
        *due += (uint64_t)(NS_PER_S / options.rate);
    }
}

static void load_for(struct connection *connections, double seconds) {
    uint64_t due = now_ns(), end = due + (uint64_t)(seconds * NS_PER_S);
    int is_paced = options.rate > 0;
    while (now_ns() < end) {
        if (is_paced)
            keep_pace(&connections[0], &due);
        else if (options.mode == FANOUT)
            fill_window(&connections[0]);
        pump(is_paced ? PACED_PUMP_MS : PUMP_MS);
    }
}

static void load(struct connection *connections) {
    if (options.mode == ECHO)
        for (int i = 0; i < options.connections; i++)
            fill_window(&connections[i]);
    load_for(connections, options.warm_up_s);
    latency_reset();
    struct snapshot before = snapshot();
    load_for(connections, options.seconds);
    struct snapshot after = snapshot();
    double seconds = elapsed_s(&before, &after);
    double server_cpu = after.server_cpu_s - before.server_cpu_s;
    double deliveries = (double)(after.totals.deliveries - before.totals.deliveries);
    if (!deliveries)
        die("nothing was delivered");
    printf(" published_per_s=%.1f deliveries_per_s=%.0f cpu_us_per_delivery=%.4f server_cpu=%.3f load_cpu=%.3f",
           (double)(after.totals.published - before.totals.published) / seconds, deliveries / seconds,
           server_cpu * 1e6 / deliveries, server_cpu / seconds, (after.own_cpu_s - before.own_cpu_s) / seconds);
    printf(" p50_us=%lu p99_us=%lu max_us=%lu bytes_per_delivery=%.1f compressed_share=%.3f", latency_us(0.5),
           latency_us(0.99), latency_max_us(), (double)(after.totals.bytes - before.totals.bytes) / deliveries,
           (double)(after.totals.compressed - before.totals.compressed) / deliveries);
}

// The command line

static const struct option names[] = {
    {"port", required_argument, 0, 'p'},     {"path", required_argument, 0, 'P'},
    {"mode", required_argument, 0, 'm'},     {"connections", required_argument, 0, 'n'},
    {"burst", required_argument, 0, 'b'},    {"window", required_argument, 0, 'w'},
    {"size", required_argument, 0, 's'},     {"rate", required_argument, 0, 'r'},
    {"warm-up", required_argument, 0, 'u'},  {"seconds", required_argument, 0, 'd'},
    {"settle", required_argument, 0, 'q'},   {"pid", required_argument, 0, 'i'},
    {"socketio", required_argument, 0, 'e'}, {"deflate", no_argument, 0, 'z'},
    {"text", no_argument, 0, 't'},           {0, 0, 0, 0},
};

static enum mode mode_named(const char *name) {
    if (strcmp(name, "connect") == 0)
        return CONNECT;
    if (strcmp(name, "fanout") == 0)
        return FANOUT;
    if (strcmp(name, "echo") == 0)
        return ECHO;
    die("--mode is connect, fanout or echo, not %s", name);
}

static void set_option(int option) {
    switch (option) {
    case 'p': options.port = atoi(optarg); break;
    case 'P': options.path = optarg; break;
    case 'm': options.mode = mode_named(optarg); break;
    case 'n': options.connections = atoi(optarg); break;
    case 'b': options.burst = atoi(optarg); break;
    case 'w': options.window = atoi(optarg); break;
    case 's': options.size = atoi(optarg); break;
    case 'r': options.rate = atof(optarg); break;
    case 'u': options.warm_up_s = atof(optarg); break;
    case 'd': options.seconds = atof(optarg); break;
    case 'q': options.settle_s = atof(optarg); break;
    case 'i': options.pid = atoi(optarg); break;
    case 'e': options.socketio = optarg; break;
    case 'z': options.deflate = 1; break;
    case 't': options.text = 1; break;
    default: exit(2);
    }
}

static void read_options(int count, char **arguments) {
    int option;
    while ((option = getopt_long(count, arguments, "", names, NULL)) != -1)
        set_option(option);
    if (!options.port || !options.pid)
        die("--port and --pid are needed: those of the server");
    if (options.connections < 1 || options.size < SMALLEST || options.size > LARGEST)
        die("--connections is at least 1, --size from %d to %d", SMALLEST, LARGEST);
}

static void raise_open_files(void) {
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
}

int main(int count, char **arguments) {
    read_options(count, arguments);
    raise_open_files();
    message_prepare();
    struct connection *connections = calloc((size_t)options.connections, sizeof *connections);
    open_connections(connections);
    if (options.mode != CONNECT && totals.ready == options.connections)
        load(connections);
    printf(" alive=%d\n", totals.ready);
    return 0;
}
