// What the parts of the load generator share.

#ifndef WSLOAD_H
#define WSLOAD_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define NS_PER_S 1000000000ull

enum mode { CONNECT, FANOUT, ECHO };

struct options {
    int port;
    const char *path;
    enum mode mode;
    int connections;
    int burst;             // handshakes under way at a time
    int window;            // messages in flight
    int size;              // bytes of a message
    double rate;           // publications a second; 0: as many as the window lets through
    double warm_up_s;
    double seconds;
    double settle_s;       // between the last handshake and the look at the server's memory
    pid_t pid;             // the server
    const char *socketio;  // the event's name, where the server speaks Socket.IO
    int deflate;           // offer permessage-deflate
    int text;              // messages of text that is worth compressing
};

enum state { CONNECTING, HANDSHAKE, GREETING, READY, DEAD };

struct connection {
    int fd;
    enum state state;
    uint32_t number;
    int greetings;        // messages that have come before it was ready
    int in_flight;        // published here and not come back yet
    unsigned char *rest;  // a frame of which the end has not arrived
    size_t rest_size;
};

struct totals {
    int ready;
    int dead;
    uint64_t published;
    uint64_t deliveries;
    uint64_t compressed;  // frames among them that came compressed
    uint64_t bytes;
};

extern struct options options;
extern struct totals totals;

_Noreturn void die(const char *format, ...);

// measure.c
uint64_t now_ns(void);
double cpu_s(pid_t pid);
long rss_kb(pid_t pid);
void latency_record(uint64_t ns);
void latency_reset(void);
uint64_t latency_us(double share);
uint64_t latency_max_us(void);

// message.c
void message_prepare(void);
size_t message_build(char *out);
void message_received(struct connection *connection, const char *payload, size_t size, uint64_t arrived);
size_t message_inflate(const unsigned char *payload, size_t size, char **out);

// frame.c
enum { CONTINUATION = 0x0, TEXT = 0x1, CLOSE = 0x8, PING = 0x9, PONG = 0xa };
struct frame {
    int opcode;
    int is_final;
    int is_compressed;
    const unsigned char *payload;
    size_t size;
};
size_t frame_read(const unsigned char *at, size_t available, struct frame *frame);
void frame_send(struct connection *connection, int opcode, const void *payload, size_t size);

// connection.c
void connections_open(struct connection *connections);
void publish(struct connection *connection);
void pump(int timeout_ms);

#endif
