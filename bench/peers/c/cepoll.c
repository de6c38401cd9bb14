// An epoll server in C for the harness's own frame: 4 bytes of length, big-endian, and the payload. It is the limit of
// a loop of one thread, and what the other servers are measured by: it must not change.
//
//	cepoll tcp|unix ADDR SECONDS       prints where it listens, ends itself after SECONDS
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { READ = 1 << 16, ROOM = 1 << 18, OUT = 1 << 20, EVENTS = 256 };

typedef struct {
	int fd;
	uint64_t n;
	uint8_t *in; // a frame that was begun
	size_t have, cap;
} conn;

static uint8_t *out, rb[READ];
static size_t outn;

__attribute__((noinline)) static void on_frame(conn *c, uint8_t *f, size_t n) {
	c->n++;
	if (f[4] == 0xFE)
		return;
	if (f[4] == 0xFF) {
		uint64_t v = htobe64(c->n);
		memcpy(out + outn, &v, 8);
		outn += 8;
		return;
	}
	memcpy(out + outn, f, n);
	outn += n;
}

static void (*volatile callback)(conn *, uint8_t *, size_t) = on_frame;

static size_t scan(conn *c, uint8_t *b, size_t n) {
	size_t off = 0;
	while (n - off >= 4) {
		uint32_t l;
		memcpy(&l, b + off, 4);
		l = ntohl(l) + 4;
		if (n - off < l)
			break;
		callback(c, b + off, l);
		off += l;
	}
	return off;
}

static void room(conn *c, size_t cap) {
	if (c->cap < cap) {
		c->cap = cap + ROOM;
		c->in = realloc(c->in, c->cap);
	}
}

// turn reads once and answers; 0 says that the connection is over.
static int turn(conn *c) {
	ssize_t r;
	outn = 0;
	if (c->have == 0) {
		r = read(c->fd, rb, sizeof rb);
		if (r > 0) {
			size_t used = scan(c, rb, r), rest = r - used;
			if (rest) {
				room(c, rest);
				memcpy(c->in, rb + used, rest);
				c->have = rest;
			}
		}
	} else {
		room(c, c->have + READ);
		r = read(c->fd, c->in + c->have, READ);
		if (r > 0) {
			c->have += r;
			size_t used = scan(c, c->in, c->have);
			c->have -= used;
			if (c->have && used)
				memmove(c->in, c->in + used, c->have);
		}
	}
	if (r <= 0)
		return r < 0 && errno == EAGAIN;
	for (size_t o = 0; o < outn;) {
		ssize_t w = write(c->fd, out + o, outn - o);
		if (w < 0 && errno != EAGAIN)
			return 0;
		o += w < 0 ? 0 : w;
	}
	return 1;
}

static void accept_all(int ls, int ep, int tcp) {
	int fd, one = 1;
	while ((fd = accept4(ls, 0, 0, SOCK_NONBLOCK)) >= 0) {
		if (tcp)
			setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
		conn *c = calloc(1, sizeof *c);
		c->fd = fd;
		struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};
		epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e);
	}
}

static int bound(int tcp, char *addr) {
	int ls = socket(tcp ? AF_INET : AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0), bad;
	if (tcp) {
		struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
		socklen_t n = sizeof a;
		a.sin_port = htons(atoi(strrchr(addr, ':') + 1));
		bad = bind(ls, (void *)&a, sizeof a) || getsockname(ls, (void *)&a, &n);
		sprintf(addr, "127.0.0.1:%d", ntohs(a.sin_port));
	} else {
		struct sockaddr_un a = {.sun_family = AF_UNIX};
		strncpy(a.sun_path, addr, sizeof a.sun_path - 1);
		bad = bind(ls, (void *)&a, sizeof a);
	}
	if (bad || listen(ls, 4096)) {
		perror("bind");
		exit(1);
	}
	return ls;
}

int main(int argc, char **argv) {
	char addr[128] = "";
	if (argc != 4)
		return 2;
	alarm(atoi(argv[3]));
	strncpy(addr, argv[2], sizeof addr - 1);
	int tcp = !strcmp(argv[1], "tcp"), ls = bound(tcp, addr), ep = epoll_create1(0);
	out = malloc(OUT);
	struct epoll_event e = {.events = EPOLLIN, .data.ptr = NULL}, ev[EVENTS];
	epoll_ctl(ep, EPOLL_CTL_ADD, ls, &e);
	printf("ready %s\n", addr);
	fflush(stdout);
	for (;;) {
		int n = epoll_wait(ep, ev, EVENTS, -1);
		for (int i = 0; i < n; i++) {
			conn *c = ev[i].data.ptr;
			if (!c) {
				accept_all(ls, ep, tcp);
			} else if (!turn(c)) {
				close(c->fd);
				free(c->in);
				free(c);
			}
		}
	}
}
