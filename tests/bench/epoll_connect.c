// The plain peer of the benches: connects as fast as an epoll loop can, and a server that greets whoever connects.
//
//   epoll_connect serve PORT                                    accepts, writes the banner that prober expects, closes
//   epoll_connect connect ADDRESS PORT TOTAL INFLIGHT greeted|bare    prints "connections seconds"
//   epoll_connect pace ADDRESS PORT RATE SECONDS                so many a second, greeted, one at a time; prints its share
//                                                               of a core, percent
//
// `bare` ends each connection as soon as it stands, `greeted` when the banner is there. The client closes by RST, so that
// no port is left in TIME_WAIT.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static void check(int result, const char *what) {
    if (result < 0) {
        perror(what);
        exit(2);
    }
}

static void raise_limit(void) {
    struct rlimit limit;
    check(getrlimit(RLIMIT_NOFILE, &limit), "getrlimit");
    limit.rlim_cur = limit.rlim_max;
    check(setrlimit(RLIMIT_NOFILE, &limit), "setrlimit");
}

static double now(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void watch(int epoll, int fd, uint32_t events) {
    struct epoll_event event = {.events = events, .data.fd = fd};
    check(epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event), "epoll_ctl");
}

_Noreturn static void serve(int port) {
    int listener = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    check(listener, "socket");
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    check(bind(listener, (struct sockaddr *)&address, sizeof address), "bind");
    check(listen(listener, 65535), "listen");
    char banner[128], host[INET_ADDRSTRLEN];
    for (;;) {
        struct sockaddr_in from;
        socklen_t size = sizeof from;
        int peer = accept(listener, (struct sockaddr *)&from, &size);
        if (peer < 0)
            continue;
        inet_ntop(AF_INET, &from.sin_addr, host, sizeof host);
        int length = snprintf(banner, sizeof banner, "PROBER/1 nonce=000000000000be7c pod=server node=bench peer=%s:%d\n",
                              host, ntohs(from.sin_port));
        // The banner leaves with the FIN. A client that has gone is not our concern.
        send(peer, banner, (size_t)length, MSG_NOSIGNAL | MSG_MORE);
        close(peer);
    }
}

static void launch(int epoll, const struct sockaddr_in *to, uint32_t events) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    check(fd, "socket");
    struct linger reset = {.l_onoff = 1, .l_linger = 0};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    if (connect(fd, (const struct sockaddr *)to, sizeof *to) < 0 && errno != EINPROGRESS)
        check(-1, "connect");
    watch(epoll, fd, events);
}

static struct sockaddr_in target(const char *host, int port) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    if (inet_pton(AF_INET, host, &to.sin_addr) != 1) {
        fprintf(stderr, "epoll_connect: %s is no IPv4 address\n", host);
        exit(2);
    }
    return to;
}

static long connect_all(int epoll, struct sockaddr_in to, long total, long inflight, int greeted) {
    uint32_t events = greeted ? EPOLLIN : EPOLLOUT;
    struct epoll_event ready[512];
    char buffer[256];
    long launched = 0, done = 0, failed = 0;
    while (done + failed < total) {
        while (launched < total && launched - done - failed < inflight) {
            launch(epoll, &to, events);
            launched++;
        }
        int count = epoll_wait(epoll, ready, 512, 5000);
        if (count == 0)
            break;
        for (int i = 0; i < count; i++) {
            int fd = ready[i].data.fd, error = 0;
            socklen_t size = sizeof error;
            getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size);
            if (error == 0 && greeted && recv(fd, buffer, sizeof buffer, 0) <= 0)
                error = EPROTO;
            close(fd);
            if (error == 0)
                done++;
            else
                failed++;
        }
    }
    if (done < total)
        fprintf(stderr, "epoll_connect: %ld of %ld connections failed or never stood\n", total - done, total);
    return done;
}

static double pace(int epoll, struct sockaddr_in to, long rate, long seconds) {
    struct timespec apart = {.tv_sec = 1 / rate, .tv_nsec = 1000000000 / rate % 1000000000};
    double start = now(CLOCK_MONOTONIC), spent = now(CLOCK_PROCESS_CPUTIME_ID);
    for (long made = 0; made < rate * seconds; made++) {
        nanosleep(&apart, NULL);
        connect_all(epoll, to, 1, 1, 1);
    }
    return (now(CLOCK_PROCESS_CPUTIME_ID) - spent) / (now(CLOCK_MONOTONIC) - start) * 100;
}

int main(int argc, char **argv) {
    raise_limit();
    if (argc == 3 && strcmp(argv[1], "serve") == 0)
        serve(atoi(argv[2]));
    int epoll = epoll_create1(0);
    check(epoll, "epoll_create1");
    if (argc == 7 && strcmp(argv[1], "connect") == 0) {
        double start = now(CLOCK_MONOTONIC);
        long done = connect_all(epoll, target(argv[2], atoi(argv[3])), atol(argv[4]), atol(argv[5]), strcmp(argv[6], "greeted") == 0);
        printf("%ld %.6f\n", done, now(CLOCK_MONOTONIC) - start);
        return 0;
    }
    if (argc == 6 && strcmp(argv[1], "pace") == 0) {
        printf("%.3f\n", pace(epoll, target(argv[2], atoi(argv[3])), atol(argv[4]), atol(argv[5])));
        return 0;
    }
    fprintf(stderr, "usage: epoll_connect serve PORT | connect ADDRESS PORT TOTAL INFLIGHT greeted|bare | pace ADDRESS PORT RATE SECONDS\n");
    return 2;
}
