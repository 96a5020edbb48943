// The floor: what the kernel asks for. An epoll loop without any protocol beyond the handshake, which writes one ready
// frame to each socket at once. It trusts its client: short unfragmented frames, and always the same key.

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MOST = 70000, EVENTS = 512, BUFFER_BYTES = 1 << 16, BACKLOG = 4096 };

static const char ACCEPTED[] =
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

static int epoll;
static int subscribers[MOST], subscriber_count;
static enum { NEW, SUBSCRIBER, ECHO } kinds[MOST];

static int listen_on(int port) {
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), on = 1;
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, (void *)&address, sizeof address) != 0 || listen(listener, BACKLOG) != 0) {
        perror("floor");
        exit(1);
    }
    return listener;
}

static void watch(int fd) {
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
}

static void accept_all(int listener) {
    int client, on = 1;
    while ((client = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
        setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        kinds[client] = NEW;
        watch(client);
    }
}

static void handshake(int client, const unsigned char *request, size_t size) {
    kinds[client] = memmem(request, size, "/echo", 5) ? ECHO : SUBSCRIBER;
    if (kinds[client] == SUBSCRIBER)
        subscribers[subscriber_count++] = client;
    send(client, ACCEPTED, strlen(ACCEPTED), MSG_NOSIGNAL);
}

static void forget(int client) {
    for (int i = 0; i < subscriber_count; i++) {
        if (subscribers[i] == client) {
            subscribers[i] = subscribers[--subscriber_count];
            break;
        }
    }
    close(client);
}

// Turns a client's frame into a server's, which has no mask, and returns the size of what it read.
static size_t reframe(const unsigned char *in, unsigned char *out, size_t *out_size) {
    size_t size = in[1] & 0x7f, header = 2;
    if (size == 126) {
        size = (size_t)(in[2] << 8 | in[3]);
        header = 4;
    }
    memcpy(out, in, header);
    out[1] &= 0x7f;
    const unsigned char *key = in + header, *payload = key + 4;
    for (size_t i = 0; i < size; i++)
        out[header + i] = payload[i] ^ key[i & 3];
    *out_size = header + size;
    return header + 4 + size;
}

static void answer(int client, const unsigned char *data, size_t size) {
    static unsigned char frame[BUFFER_BYTES];
    size_t frame_size;
    for (size_t at = 0; at < size;) {
        at += reframe(data + at, frame, &frame_size);
        if (kinds[client] == ECHO)
            send(client, frame, frame_size, MSG_NOSIGNAL);
        else
            for (int i = 0; i < subscriber_count; i++)
                send(subscribers[i], frame, frame_size, MSG_NOSIGNAL);
    }
}

static void readable(int client) {
    static unsigned char buffer[BUFFER_BYTES];
    ssize_t size = recv(client, buffer, sizeof buffer, 0);
    if (size < 0 && errno == EAGAIN)
        return;
    if (size <= 0)
        forget(client);
    else if (kinds[client] == NEW)
        handshake(client, buffer, (size_t)size);
    else
        answer(client, buffer, (size_t)size);
}

int main(int count, char **arguments) {
    struct epoll_event events[EVENTS];
    int listener = listen_on(count > 1 ? atoi(arguments[1]) : 0);
    epoll = epoll_create1(0);
    watch(listener);
    for (;;) {
        int ready = epoll_wait(epoll, events, EVENTS, -1);
        for (int i = 0; i < ready; i++) {
            if (events[i].data.fd == listener)
                accept_all(listener);
            else
                readable(events[i].data.fd);
        }
    }
}
