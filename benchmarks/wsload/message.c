// Messages: each is JSON that begins with the time of its publication.
//
// A message is {"t":<nanoseconds>,"p":<padding>}. The padding is a row of x, or, where compression is measured, records
// as applications send them, which a compressor has real work with.

#define _GNU_SOURCE
#include "wsload.h"

#include <stdio.h>
#include <string.h>
#include <zlib.h>

#define MARKER "{\"t\":"

enum { RECORDS = 97, RECORD_BYTES = 160, LARGEST = 1 << 17 };

static char records[RECORDS][RECORD_BYTES];
static size_t record_sizes[RECORDS];
static unsigned next_record;

static unsigned pseudo_random(unsigned below) {
    static uint32_t value = 2463534242u;
    value ^= value << 13;
    value ^= value >> 17;
    value ^= value << 5;
    return value % below;
}

static const char *const names[] = {"amelie", "bruno", "chiara", "dmitri", "esra", "farid", "greta", "hiroshi"};
static const char *const rooms[] = {"lobby", "kitchen", "garden", "support", "releases"};
static const char *const words[] = {"see",  "you",   "at",     "the",   "station", "when",  "train", "leaves",
                                    "we",   "moved", "table",  "to",    "window",  "who",   "has",   "seen",
                                    "that", "page",  "before", "lunch", "nobody",  "knows", "it",    "yet"};

#define PICK(list) ((list)[pseudo_random(sizeof(list) / sizeof(list)[0])])

void message_prepare(void) {
    for (int i = 0; i < RECORDS; i++) {
        int size = snprintf(
            records[i], RECORD_BYTES,
            "{\"id\":%u,\"user\":\"%s\",\"room\":\"%s\",\"x\":%u.%u,\"y\":%u.%u,\"text\":\"%s %s %s %s %s\"},",
            pseudo_random(1000000), PICK(names), PICK(rooms), pseudo_random(1000), pseudo_random(10),
            pseudo_random(1000), pseudo_random(10), PICK(words), PICK(words), PICK(words), PICK(words), PICK(words));
        record_sizes[i] = (size_t)size;
    }
}

// Fills `room` bytes with a JSON string.
static void pad_with_letters(char *out, size_t room) {
    out[0] = out[room - 1] = '"';
    memset(out + 1, 'x', room - 2);
}

// Fills `room` bytes with a JSON array of records, other ones each time, and a last string.
static void pad_with_records(char *out, size_t room) {
    char *at = out, *end = out + room - 1;
    *at++ = '[';
    for (;; next_record++) {
        size_t size = record_sizes[next_record % RECORDS];
        if ((size_t)(end - at) < size + 2)
            break;
        memcpy(at, records[next_record % RECORDS], size);
        at += size;
    }
    pad_with_letters(at, (size_t)(end - at));
    *end = ']';
}

size_t message_build(char *out) {
    size_t prefix = options.socketio ? (size_t)sprintf(out, "42[\"%s\",", options.socketio) : 0;
    char *json = out + prefix;
    size_t head = (size_t)sprintf(json, MARKER "%llu,\"p\":", (unsigned long long)now_ns());
    size_t room = (size_t)options.size - head - 1;
    (options.text ? pad_with_records : pad_with_letters)(json + head, room);
    json[head + room] = '}';
    size_t size = prefix + (size_t)options.size;
    if (options.socketio)
        out[size++] = ']';
    return size;
}

static uint64_t number_at(const char *at, const char *end) {
    uint64_t number = 0;
    while (at < end && *at >= '0' && *at <= '9')
        number = number * 10 + (uint64_t)(*at++ - '0');
    return number;
}

// Counts the messages of a frame: a client protocol may put several into one.
void message_received(struct connection *connection, const char *payload, size_t size, uint64_t arrived) {
    const char *at = payload, *end = payload + size;
    while ((at = memmem(at, (size_t)(end - at), MARKER, strlen(MARKER)))) {
        uint64_t published = number_at(at + strlen(MARKER), end);
        totals.deliveries++;
        latency_record(arrived > published ? arrived - published : 0);
        if (connection->in_flight > 0) {
            connection->in_flight--;
            if (options.mode == ECHO)
                publish(connection);
        }
        if (end - at <= options.size)
            return;
        at += options.size;
    }
}

// Inflates one message that was compressed without context (RFC 7692, sections 7.2.2 and 7.2.3) and returns its size.
static size_t inflate_message(const unsigned char *payload, size_t size, char *out, size_t room) {
    static unsigned char tail[] = {0x00, 0x00, 0xff, 0xff};
    static z_stream stream;
    if (!stream.state && inflateInit2(&stream, -MAX_WBITS) != Z_OK)
        die("zlib does not start");
    inflateReset(&stream);
    stream.next_out = (unsigned char *)out;
    stream.avail_out = (unsigned)room;
    stream.next_in = (unsigned char *)payload;
    stream.avail_in = (unsigned)size;
    int result = inflate(&stream, Z_SYNC_FLUSH);
    if (result == Z_OK || result == Z_BUF_ERROR) {
        stream.next_in = tail;
        stream.avail_in = sizeof tail;
        result = inflate(&stream, Z_SYNC_FLUSH);
    }
    if ((result != Z_OK && result != Z_BUF_ERROR && result != Z_STREAM_END) || !stream.avail_out)
        die("a compressed message cannot be inflated by itself: %s", stream.msg ? stream.msg : "too large");
    return room - stream.avail_out;
}

// Inflates a message, unless it is the one before once more, as it comes to the next subscriber. Else inflating, which
// costs as much as receiving, would fill the generator's core before the server's.
size_t message_inflate(const unsigned char *payload, size_t size, char **out) {
    static unsigned char last[LARGEST];
    static char inflated[LARGEST];
    static size_t last_size, inflated_size;
    if (size != last_size || memcmp(payload, last, size) != 0) {
        inflated_size = inflate_message(payload, size, inflated, sizeof inflated);
        last_size = size <= sizeof last ? size : 0;
        memcpy(last, payload, last_size);
    }
    *out = inflated;
    return inflated_size;
}
