// Connections: opening them, and what arrives on them.

#define _GNU_SOURCE
#include "wsload.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define DEFLATE_OFFER \
    "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; client_no_context_takeover\r\n"

enum { EVENTS = 512, BUFFER_BYTES = 1 << 18, DEADLINE_S = 120, DIAL_MS = 10 };
enum { SOCKETIO_GREETINGS = 2 };  // Engine.IO's open packet and Socket.IO's CONNECT

static int epoll;

void publish(struct connection *connection) {
    static char message[1 << 17];
    size_t size = message_build(message);
    connection->in_flight++;
    totals.published++;
    frame_send(connection, TEXT, message, size);
}

static void make_ready(struct connection *connection) {
    connection->state = READY;
    totals.ready++;
}

static void lose(struct connection *connection) {
    if (connection->state == READY)
        totals.ready--;
    totals.dead++;
    connection->state = DEAD;
    close(connection->fd);
}

// Says what happened to the first connection that was lost; the others will have had the same.
static void complain(const char *what, const char *text, size_t size) {
    if (!totals.dead)
        fprintf(stderr, "%s %.*s\n", what, (int)size, text);
}

// Opening

static void dial(struct connection *connection) {
    connection->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (connection->fd < 0)
        die("no socket for connection %u: %s (ulimit -n?)", connection->number, strerror(errno));
    int on = 1;
    setsockopt(connection->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    struct sockaddr_in address = {
        .sin_family = AF_INET,
        .sin_port = htons((uint16_t)options.port),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };
    connection->state = CONNECTING;
    connect(connection->fd, (void *)&address, sizeof address);
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.ptr = connection};
    epoll_ctl(epoll, EPOLL_CTL_ADD, connection->fd, &event);
}

// Opens all of them, with so many handshakes under way at a time as the burst says.
void connections_open(struct connection *connections) {
    epoll = epoll_create1(0);
    uint64_t deadline = now_ns() + DEADLINE_S * NS_PER_S;
    int dialed = 0;
    while (totals.ready + totals.dead < options.connections) {
        while (dialed < options.connections && dialed - totals.ready - totals.dead < options.burst) {
            connections[dialed].number = (uint32_t)dialed;
            dial(&connections[dialed++]);
        }
        pump(DIAL_MS);
        if (now_ns() > deadline)
            die("%d of %d connections are ready after %d seconds", totals.ready, options.connections, DEADLINE_S);
    }
}

static void request(struct connection *connection) {
    char head[2048];
    int size = snprintf(head, sizeof head,
                        "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n%s\r\n",
                        options.path, options.port, options.deflate ? DEFLATE_OFFER : "");
    connection->state = HANDSHAKE;
    if (send(connection->fd, head, (size_t)size, MSG_NOSIGNAL) != size)
        lose(connection);
}

// Returns the size of the response's head, or 0 where it is not complete.
static size_t response(struct connection *connection, const unsigned char *data, size_t size) {
    const char *end = memmem(data, size, "\r\n\r\n", 4);
    if (!end)
        return 0;
    size_t head = (size_t)(end + 4 - (const char *)data);
    if (memcmp(data, "HTTP/1.1 101", 12) != 0) {
        complain("the first answer was", (const char *)data, strcspn((const char *)data, "\r\n"));
        lose(connection);
    } else if (options.deflate && !memmem(data, head, "server_no_context_takeover", 26)) {
        die("the server does not agree to permessage-deflate without context takeover");
    } else if (options.socketio) {
        connection->state = GREETING;
    } else {
        make_ready(connection);
    }
    return head;
}

// What arrives

static void greeted(struct connection *connection) {
    if (++connection->greetings == SOCKETIO_GREETINGS)
        make_ready(connection);
    else
        frame_send(connection, TEXT, "40", 2);
}

static void on_text(struct connection *connection, const struct frame *frame, uint64_t arrived) {
    if (!frame->is_final)
        die("a message in several frames");
    if (options.socketio && frame->size == 1 && frame->payload[0] == '2') {  // Engine.IO's ping
        frame_send(connection, TEXT, "3", 1);
    } else if (connection->state == GREETING) {
        greeted(connection);
    } else if (frame->is_compressed) {
        char *payload;
        size_t size = message_inflate(frame->payload, frame->size, &payload);
        totals.compressed++;
        message_received(connection, payload, size, arrived);
    } else {
        message_received(connection, (const char *)frame->payload, frame->size, arrived);
    }
}

static void closed(struct connection *connection, const struct frame *frame) {
    char code[16] = "no code";
    if (frame->size >= 2)
        snprintf(code, sizeof code, "%d", frame->payload[0] << 8 | frame->payload[1]);
    complain("the first was closed with", code, strlen(code));
    lose(connection);
}

static void on_frame(struct connection *connection, const struct frame *frame, uint64_t arrived) {
    if (frame->opcode == TEXT)
        on_text(connection, frame, arrived);
    else if (frame->opcode == PING)
        frame_send(connection, PONG, frame->payload, frame->size);
    else if (frame->opcode == CLOSE)
        closed(connection, frame);
    else if (frame->opcode != PONG)
        die("a frame with opcode %d", frame->opcode);
}

// Returns how much of the data was complete.
static size_t consume(struct connection *connection, const unsigned char *data, size_t size, uint64_t arrived) {
    size_t used = 0, step;
    if (connection->state == HANDSHAKE && !(used = response(connection, data, size)))
        return 0;
    struct frame frame;
    while (connection->state != DEAD && (step = frame_read(data + used, size - used, &frame))) {
        used += step;
        on_frame(connection, &frame, arrived);
    }
    return used;
}

static void keep(struct connection *connection, const unsigned char *data, size_t size) {
    if (size > BUFFER_BYTES / 2)
        die("a frame that is too large");
    if (size) {
        connection->rest = realloc(connection->rest, size);
        memcpy(connection->rest, data, size);
    }
    connection->rest_size = size;
}

// Reads until the socket is empty. All connections read into one buffer, which stays in the cache.
static void readable(struct connection *connection, int has_hung_up) {
    static unsigned char buffer[BUFFER_BYTES];
    while (connection->state != DEAD) {
        size_t kept = connection->rest_size, room = sizeof buffer - kept;
        if (kept)
            memcpy(buffer, connection->rest, kept);
        ssize_t got = recv(connection->fd, buffer + kept, room, 0);
        if (got < 0 && errno == EAGAIN)
            return;
        if (got <= 0) {
            lose(connection);
            return;
        }
        totals.bytes += (uint64_t)got;
        size_t size = kept + (size_t)got;
        size_t used = consume(connection, buffer, size, now_ns());
        keep(connection, buffer + used, size - used);
        if ((size_t)got < room && !has_hung_up)
            return;
    }
}

// Handles what has happened, after waiting for it so long at most.
void pump(int timeout_ms) {
    struct epoll_event events[EVENTS];
    int count = epoll_wait(epoll, events, EVENTS, timeout_ms);
    for (int i = 0; i < count; i++) {
        struct connection *connection = events[i].data.ptr;
        int has_hung_up = events[i].events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR);
        if (connection->state == CONNECTING && events[i].events & EPOLLOUT)
            request(connection);
        if (connection->state != DEAD && (events[i].events & EPOLLIN || has_hung_up))
            readable(connection, has_hung_up);
    }
}
