/*
 * The server of the benchmark: one thread, epoll, nothing parsed that is not needed.
 *
 * Speaks what `backend.py` speaks, byte for byte, and exists because Python answers too slowly to
 * show what a relay costs. Compiled when the benchmark starts; Linux only. Prints its port and
 * ends with its standard input.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define MAX_FD 65536
#define SMALL 1024
#define PIECES 3

#define SESSION "Mcp-Session-Id: benchmark\r\n"
#define JSON_HEAD "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n%sContent-Length: %zu\r\n\r\n"
#define STREAM_HEAD \
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
#define TEXT_BEGIN "{\"jsonrpc\":\"2.0\",\"id\":%.*s,\"result\":{\"content\":[{\"type\":\"text\",\"text\":\""
#define TEXT_END "\"}]}}"
#define NOTE "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\",\"params\":{\"level\":\"info\",\"data\":\"%020lld\"}}"
#define INITIALIZED \
    "{\"jsonrpc\":\"2.0\",\"id\":%.*s,\"result\":{\"protocolVersion\":\"2025-06-18\"," \
    "\"capabilities\":{\"tools\":{}},\"serverInfo\":{\"name\":\"benchmark\",\"version\":\"1\"}}}"
#define TOOLS "{\"jsonrpc\":\"2.0\",\"id\":%.*s,\"result\":{\"tools\":[]}}"

typedef struct {
    char *in;
    size_t in_used, in_size;
    struct iovec out[PIECES]; /* what is being sent; the next request waits until it is gone */
    int pieces, piece;
    char small[SMALL], tail[SMALL];
    char *owned;
    char id[64];
    int id_size;
    long long due, gap; /* nanoseconds; due is 0 when nothing is waited for */
    long left;          /* notifications of a stream that are still to come, -1: a held answer */
    int is_waiting_for_room;
} Connection;

static Connection *connections[MAX_FD];
static int waiting[MAX_FD], waiting_count; /* connections with a `due` */
static int loop;
static char *filler;
static size_t filler_size;

static long long now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static char *filled(size_t size)
{
    if (size > filler_size) {
        filler = realloc(filler, size);
        memset(filler, 'x', size);
        filler_size = size;
    }
    return filler;
}

/* The value of a member, wherever it stands: the driver's messages have each name once. */
static const char *member(const char *body, size_t size, const char *name)
{
    size_t length = strlen(name);
    const char *end = body + size, *at = body;
    while ((at = memmem(at, end - at, name, length)) != NULL) {
        at += length;
        const char *p = at;
        while (p < end && *p == ' ') p++;
        if (p < end && *p == ':') {
            p++;
            while (p < end && *p == ' ') p++;
            return p;
        }
    }
    return NULL;
}

static long number(const char *body, size_t size, const char *name, long otherwise)
{
    const char *value = member(body, size, name);
    return value == NULL ? otherwise : strtol(value, NULL, 10);
}

static void drop(int fd)
{
    Connection *c = connections[fd];
    for (int i = 0; i < waiting_count; i++)
        if (waiting[i] == fd) waiting[i--] = waiting[--waiting_count];
    connections[fd] = NULL;
    close(fd);
    free(c->in);
    free(c->owned);
    free(c);
}

/* Whether all is gone; -1 when the connection is. */
static int flush(int fd, Connection *c)
{
    while (c->piece < c->pieces) {
        ssize_t count = writev(fd, c->out + c->piece, c->pieces - c->piece);
        if (count < 0) {
            if (errno != EAGAIN) {
                drop(fd);
                return -1;
            }
            if (!c->is_waiting_for_room) {
                struct epoll_event e = {.events = EPOLLIN | EPOLLOUT, .data.fd = fd};
                epoll_ctl(loop, EPOLL_CTL_MOD, fd, &e);
                c->is_waiting_for_room = 1;
            }
            return 0;
        }
        while (c->piece < c->pieces && (size_t)count >= c->out[c->piece].iov_len)
            count -= c->out[c->piece++].iov_len;
        if (c->piece < c->pieces) {
            c->out[c->piece].iov_base = (char *)c->out[c->piece].iov_base + count;
            c->out[c->piece].iov_len -= count;
        }
    }
    c->piece = c->pieces = 0;
    free(c->owned);
    c->owned = NULL;
    if (c->is_waiting_for_room) {
        struct epoll_event e = {.events = EPOLLIN, .data.fd = fd};
        epoll_ctl(loop, EPOLL_CTL_MOD, fd, &e);
        c->is_waiting_for_room = 0;
    }
    return 1;
}

static void add(Connection *c, const void *data, size_t size)
{
    c->out[c->pieces].iov_base = (void *)data;
    c->out[c->pieces++].iov_len = size;
}

static void answer_text(Connection *c, size_t size)
{
    char begin[256];
    int n = snprintf(begin, sizeof begin, TEXT_BEGIN, c->id_size, c->id);
    size_t whole = n + size + strlen(TEXT_END);
    int head = snprintf(c->small, SMALL, JSON_HEAD, "", whole);
    memcpy(c->small + head, begin, n);
    if (size <= SMALL - head - n - sizeof TEXT_END) { /* one piece is cheaper than three */
        memset(c->small + head + n, 'x', size);
        memcpy(c->small + head + n + size, TEXT_END, strlen(TEXT_END));
        add(c, c->small, head + whole);
        return;
    }
    add(c, c->small, head + n);
    add(c, filled(size), size);
    add(c, TEXT_END, strlen(TEXT_END));
}

static void answer_event(Connection *c, size_t size, const char *head)
{
    char begin[256];
    int n = snprintf(begin, sizeof begin, "event: message\ndata: " TEXT_BEGIN, c->id_size, c->id);
    size_t whole = n + size + strlen(TEXT_END "\n\n");
    int used = snprintf(c->small, SMALL, "%s%zx\r\n%s", head, whole, begin);
    add(c, c->small, used);
    add(c, filled(size), size);
    add(c, TEXT_END "\n\n\r\n0\r\n\r\n", strlen(TEXT_END "\n\n\r\n0\r\n\r\n"));
}

static int note(char *to, long long value)
{
    char event[256];
    int n = snprintf(event, sizeof event, "event: message\ndata: " NOTE "\n\n", value);
    return sprintf(to, "%x\r\n%s\r\n", n, event);
}

static void answer_notes(Connection *c, long count)
{
    size_t used = 0;
    c->owned = malloc(count * 256 + SMALL);
    used += sprintf(c->owned, STREAM_HEAD);
    for (long i = 0; i < count; i++) used += note(c->owned + used, i);
    char begin[256];
    int n = snprintf(begin, sizeof begin, "event: message\ndata: " TEXT_BEGIN TEXT_END "\n\n",
                     c->id_size, c->id);
    used += sprintf(c->owned + used, "%x\r\n%s\r\n0\r\n\r\n", n, begin);
    add(c, c->owned, used);
}

static void wait_for(int fd, Connection *c, long long due)
{
    if (c->due == 0) waiting[waiting_count++] = fd;
    c->due = due;
}

static void plain(Connection *c, const char *format, const char *more)
{
    char body[512];
    int n = snprintf(body, sizeof body, format, c->id_size, c->id);
    int head = snprintf(c->small, SMALL, JSON_HEAD, more, (size_t)n);
    memcpy(c->small + head, body, n);
    add(c, c->small, head + n);
}

static void status(Connection *c, const char *line)
{
    add(c, c->small, snprintf(c->small, SMALL, "HTTP/1.1 %s\r\nContent-Length: 0\r\n\r\n", line));
}

static void answer(int fd, Connection *c, const char *head, const char *body, size_t size)
{
    if (memcmp(head, "GET", 3) == 0) {
        status(c, "405 Method Not Allowed");
        return;
    }
    if (memcmp(head, "POST", 4) != 0) {
        status(c, "200 OK");
        return;
    }
    const char *id = member(body, size, "\"id\"");
    if (id == NULL) {
        status(c, "202 Accepted");
        return;
    }
    const char *end = body + size, *after = id;
    if (*after == '"') {
        after++;
        while (after < end && *after != '"') after++;
        after++;
    } else {
        while (after < end && *after != ',' && *after != '}' && *after != ' ') after++;
    }
    c->id_size = after - id < (long)sizeof c->id ? after - id : 0;
    memcpy(c->id, id, c->id_size);

    const char *method = member(body, size, "\"method\"");
    if (method != NULL && memcmp(method, "\"initialize\"", 12) == 0) {
        plain(c, INITIALIZED, memcmp(head, "POST /session ", 14) == 0 ? SESSION : "");
        return;
    }
    if (method == NULL || memcmp(method, "\"tools/call\"", 12) != 0) {
        plain(c, TOOLS, "");
        return;
    }
    const char *name = member(body, size, "\"name\"");
    long amount = number(body, size, "\"amount\"", 0);
    long pause = number(body, size, "\"pause\"", 0);
    if (memcmp(name, "\"text\"", 6) == 0) {
        answer_text(c, amount);
    } else if (memcmp(name, "\"event\"", 7) == 0) {
        answer_event(c, amount, STREAM_HEAD);
    } else if (memcmp(name, "\"notes\"", 7) == 0) {
        answer_notes(c, amount);
    } else if (memcmp(name, "\"held\"", 6) == 0) {
        c->left = -1;
        wait_for(fd, c, now() + pause * 1000000LL);
    } else { /* "ticks" */
        c->left = amount;
        c->gap = pause * 1000000LL;
        add(c, STREAM_HEAD, strlen(STREAM_HEAD));
        wait_for(fd, c, now() + c->gap);
    }
}

/* Answer what has been read, one after the other. */
static void work(int fd, Connection *c)
{
    size_t at = 0;
    while (c->pieces == 0 && c->due == 0) {
        char *begin = c->in + at;
        char *end = memmem(begin, c->in_used - at, "\r\n\r\n", 4);
        if (end == NULL) break;
        size_t size = 0;
        *end = 0;
        char *length = strcasestr(begin, "\r\ncontent-length:");
        *end = '\r';
        if (length != NULL) size = strtoul(length + 17, NULL, 10);
        if (c->in_used - at < end + 4 - begin + size) break;
        at += end + 4 - begin + size;
        answer(fd, c, begin, end + 4, size);
        if (c->pieces > 0 && flush(fd, c) < 0) return;
    }
    memmove(c->in, c->in + at, c->in_used - at);
    c->in_used -= at;
}

static void receive(int fd, Connection *c)
{
    for (;;) {
        if (c->in_size - c->in_used < 65536) {
            c->in_size = c->in_used + 131072;
            c->in = realloc(c->in, c->in_size);
        }
        ssize_t count = read(fd, c->in + c->in_used, c->in_size - c->in_used - 1);
        if (count < 0 && errno == EAGAIN) return;
        if (count <= 0) {
            drop(fd);
            return;
        }
        int is_all = (size_t)count < c->in_size - c->in_used - 1;
        c->in_used += count;
        work(fd, c);
        if (is_all || connections[fd] != c) return;
    }
}

/* Do what is due; milliseconds until the next, -1 without any. */
static int wait_time(void)
{
    long long next = 0, time = now();
    for (int i = 0; i < waiting_count; i++) {
        int fd = waiting[i];
        Connection *c = connections[fd];
        if (c->due <= time && c->pieces == 0) {
            if (c->left > 0) {
                c->due += c->gap;
                c->left--;
                add(c, c->small, note(c->small, now()));
                if (flush(fd, c) < 0) {
                    i = -1;
                    next = 0;
                    continue;
                }
            } else {
                int is_held = c->left < 0;
                c->due = 0;
                waiting[i--] = waiting[--waiting_count];
                if (is_held)
                    answer_text(c, 100);
                else
                    answer_event(c, 0, "");
                if (flush(fd, c) >= 0) work(fd, c);
                continue;
            }
        }
        if (next == 0 || c->due < next) next = c->due;
    }
    if (next == 0) return -1;
    long long rest = next - now();
    return rest <= 0 ? 0 : (int)((rest + 999999) / 1000000);
}

static void welcome(int listener)
{
    int fd, yes = 1;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        if (fd >= MAX_FD) {
            close(fd);
            continue;
        }
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
        connections[fd] = calloc(1, sizeof(Connection));
        struct epoll_event e = {.events = EPOLLIN, .data.fd = fd};
        epoll_ctl(loop, EPOLL_CTL_ADD, fd, &e);
    }
}

int main(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t length = sizeof address;
    signal(SIGPIPE, SIG_IGN); /* clients may hang up at any time */
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (bind(listener, (struct sockaddr *)&address, length) || listen(listener, 4096)) return 1;
    getsockname(listener, (struct sockaddr *)&address, &length);
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);

    loop = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event e = {.events = EPOLLIN, .data.fd = listener};
    epoll_ctl(loop, EPOLL_CTL_ADD, listener, &e);
    e.data.fd = STDIN_FILENO;
    epoll_ctl(loop, EPOLL_CTL_ADD, STDIN_FILENO, &e);
    filled(64 << 20); /* not while something is timed */

    struct epoll_event events[256];
    for (;;) {
        int count = epoll_wait(loop, events, 256, wait_time());
        for (int i = 0; i < count; i++) {
            int fd = events[i].data.fd;
            if (fd == STDIN_FILENO) return 0;
            if (fd == listener) {
                welcome(listener);
                continue;
            }
            Connection *c = connections[fd];
            if (c == NULL) continue;
            if (events[i].events & EPOLLOUT) {
                if (flush(fd, c) < 0) continue;
                if (c->pieces == 0) work(fd, c);
                if (connections[fd] != c) continue;
            }
            if (events[i].events & ~EPOLLOUT) receive(fd, c);
        }
    }
}
