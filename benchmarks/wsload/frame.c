// Frames of RFC 6455, section 5.2.

#define _GNU_SOURCE
#include "wsload.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

enum { FINAL = 0x80, COMPRESSED = 0x40, MASKED = 0x80, TWO_BYTES = 126, EIGHT_BYTES = 127 };
enum { LARGEST = 65535, LARGEST_HEADER = 8, STALLED_MS = 10000 };

static uint64_t big_endian(const unsigned char *at, int count) {
    uint64_t value = 0;
    for (int i = 0; i < count; i++)
        value = value << 8 | at[i];
    return value;
}

// Returns the size of the first frame with its header, or 0 where it is not complete.
size_t frame_read(const unsigned char *at, size_t available, struct frame *frame) {
    if (available < 2)
        return 0;
    uint64_t size = at[1] & 0x7f;
    size_t extended = size == TWO_BYTES ? 2 : size == EIGHT_BYTES ? 8 : 0;
    size_t header = 2 + extended;
    if (available < header)
        return 0;
    if (extended)
        size = big_endian(at + 2, (int)extended);
    if (available - header < size)
        return 0;
    frame->opcode = at[0] & 0x0f;
    frame->is_final = at[0] & FINAL;
    frame->is_compressed = at[0] & COMPRESSED;
    frame->payload = at + header;
    frame->size = size;
    return header + size;
}

// Waits while the server does not read: what it is given is at most a few messages, which its socket takes.
static void send_all(int fd, const unsigned char *data, size_t size) {
    while (size) {
        ssize_t sent = send(fd, data, size, MSG_NOSIGNAL);
        if (sent >= 0) {
            data += sent;
            size -= (size_t)sent;
        } else if (errno == EAGAIN) {
            struct pollfd writable = {.fd = fd, .events = POLLOUT};
            if (poll(&writable, 1, STALLED_MS) == 0)
                die("the server has not read for %d seconds", STALLED_MS / 1000);
        } else {
            return;  // the connection is lost: reading will tell
        }
    }
}

void frame_send(struct connection *connection, int opcode, const void *payload, size_t size) {
    static unsigned char out[LARGEST_HEADER + LARGEST];
    if (size > LARGEST)
        die("a frame of %zu bytes is too large", size);
    size_t at = 0;
    out[at++] = (unsigned char)(FINAL | opcode);
    if (size < TWO_BYTES) {
        out[at++] = (unsigned char)(MASKED | size);
    } else {
        out[at++] = MASKED | TWO_BYTES;
        out[at++] = (unsigned char)(size >> 8);
        out[at++] = (unsigned char)size;
    }
    uint32_t word = 0x12345678 ^ connection->number;
    unsigned char key[4];
    memcpy(key, &word, sizeof key);
    memcpy(out + at, key, sizeof key);
    at += sizeof key;
    for (size_t i = 0; i < size; i++)
        out[at + i] = ((const unsigned char *)payload)[i] ^ key[i & 3];
    send_all(connection->fd, out, at + size);
}
