// Both ends of the traffic between a guest and its host that `npm run bench -- vmm` measures. The host's end has the say
// and counts; the guest's end does what it is told over a connection of its own, so that its console is silent meanwhile.
//
// Usage: traffic host PORT             Lines on stdin: a mode, which begins it; mark; stop. It ends with its stdin.
//        traffic guest ADDRESS PORT    ADDRESS of the host
//
// Modes, seen from the guest:
//   tcp-out, tcp-in   one connection; the count is of bytes that came, or that were acknowledged
//   udp-out, udp-in   frames of 64 bytes with their Ethernet header; the count is of those that came. WINDOW of them are
//                     under way at most: a sender that goes ahead would measure what a tap drops
//   rr                a byte there and a byte back on one connection; the count is of such pairs
//
// The host says "connected", once the guest is; "begun" for a mode, once it moves; "mark COUNT NANOSECONDS"; "stopped".
#define _GNU_SOURCE /* recvmmsg, sendmmsg */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

enum {
	PAYLOAD = 64 - 14 - 20 - 8, /* behind headers of Ethernet, IPv4 and UDP */
	BATCH = 32,
	WINDOW = 128, /* less than a ring of 256, so that nothing is dropped for want of room */
	CHUNK = 128 * 1024,
	LOST_AFTER_MS = 100,
};

/* In the first word of a datagram: what a sender sends, and the end. An acknowledgement has the count of what came. */
static const uint32_t DATA = 0, END = UINT32_MAX;

static unsigned char chunk[CHUNK];

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static int check(int result, const char *what)
{
	if (result < 0)
		die(what);
	return result;
}

static int tcp_socket(void)
{
	int one = 1;
	int fd = check(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket");

	check(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one), "TCP_NODELAY");
	check(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one), "SO_REUSEADDR");
	return fd;
}

static int udp_socket(void)
{
	struct timeval patience = {.tv_usec = LOST_AFTER_MS * 1000};
	int fd = check(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), "socket");

	check(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience), "SO_RCVTIMEO");
	return fd;
}

/* Closing resets the connection: what is still under way is of no use to anybody. */
static void reset(int fd)
{
	struct linger none = {.l_onoff = 1};

	setsockopt(fd, SOL_SOCKET, SO_LINGER, &none, sizeof none);
	close(fd);
}

struct batch {
	uint32_t word[BATCH][(PAYLOAD + 3) / 4];
	struct iovec part[BATCH];
	struct mmsghdr message[BATCH];
};

static void prepare(struct batch *batch)
{
	memset(batch, 0, sizeof *batch);
	for (int i = 0; i < BATCH; i++) {
		batch->part[i] = (struct iovec){.iov_base = batch->word[i], .iov_len = PAYLOAD};
		batch->message[i].msg_hdr = (struct msghdr){.msg_iov = &batch->part[i], .msg_iovlen = 1};
	}
}

/* How much came, in acknowledgements that are there, or in the next one: END where the other side has enough. */
static uint32_t take_acknowledgement(int udp, uint32_t known, int flags)
{
	uint32_t word;
	ssize_t got;

	while ((got = recv(udp, &word, sizeof word, flags)) >= (ssize_t)sizeof word) {
		if (word == END)
			return END;
		known = word;
		flags = MSG_DONTWAIT;
	}
	return known;
}

/* Keeps WINDOW datagrams under way, until it is told to end by the other side, or by *stop. */
static void send_datagrams(int udp, _Atomic uint64_t *acknowledged, const atomic_bool *stop)
{
	static struct batch batch;
	uint32_t sent = 0, came = 0, lost = 0;

	prepare(&batch);
	while (!(stop && *stop)) {
		int full = (int32_t)(sent - lost - came) > WINDOW - BATCH;
		uint32_t before = came;
		int count;

		came = take_acknowledgement(udp, came, full ? 0 : MSG_DONTWAIT);
		if (came == END)
			return;
		if (acknowledged)
			*acknowledged = came;
		if (full && came == before)
			lost = sent - came;
		if ((int32_t)(sent - lost - came) > WINDOW - BATCH)
			continue;
		count = sendmmsg(udp, batch.message, BATCH, 0);
		if (count > 0)
			sent += (uint32_t)count;
	}
}

/* Takes one batch, and acknowledges what came. Returns whether its end was in it. */
static int receive_datagrams(int udp, uint32_t *came, uint32_t *said)
{
	static struct batch batch;
	static int prepared;
	int count;

	if (!prepared++)
		prepare(&batch);
	count = recvmmsg(udp, batch.message, BATCH, MSG_WAITFORONE, NULL);
	for (int i = 0; i < count; i++) {
		if (batch.word[i][0] == END)
			return 1;
	}
	if (count > 0)
		*came += (uint32_t)count;
	if (*came - *said >= BATCH) {
		*said = *came;
		send(udp, came, sizeof *came, 0);
	}
	return 0;
}

/* ---- the host ---- */

static struct sockaddr_in any = {.sin_family = AF_INET};
static int listener, control;
static atomic_bool stop;
static atomic_bool begun;
static _Atomic uint64_t count;
static atomic_int unacknowledged = -1; /* a connection whose unacknowledged bytes are not to be counted */
static int modes[2];

static void say(const char *text)
{
	printf("%s\n", text);
	fflush(stdout);
}

static void moved(uint64_t amount)
{
	count += amount;
	if (!begun) {
		begun = 1;
		say("begun");
	}
}

static void mark(void)
{
	struct timespec now;
	int queued = 0;

	if (unacknowledged >= 0)
		ioctl(unacknowledged, SIOCOUTQ, &queued);
	clock_gettime(CLOCK_MONOTONIC, &now);
	printf("mark %llu %llu\n", (unsigned long long)(count - (uint64_t)queued),
	       (unsigned long long)now.tv_sec * 1000000000ull + (unsigned long long)now.tv_nsec);
	fflush(stdout);
}

static void *take_commands(void *unused)
{
	char line[32];

	(void)unused;
	while (fgets(line, sizeof line, stdin)) {
		line[strcspn(line, "\n")] = 0;
		if (strcmp(line, "mark") == 0)
			mark();
		else if (strcmp(line, "stop") == 0)
			stop = 1;
		else if (write(modes[1], line, sizeof line) < 0)
			die("pipe");
	}
	exit(0);
}

static void host_tcp_out(void)
{
	int data = check(accept(listener, NULL, NULL), "accept");
	ssize_t got;

	while (!stop && (got = read(data, chunk, sizeof chunk)) > 0)
		moved((uint64_t)got);
	reset(data);
}

static void host_tcp_in(void)
{
	int data = check(accept(listener, NULL, NULL), "accept");
	ssize_t put;

	unacknowledged = data;
	while (!stop && (put = write(data, chunk, sizeof chunk)) > 0)
		moved((uint64_t)put);
	unacknowledged = -1;
	reset(data);
}

static void host_rr(void)
{
	int one = 1;
	int data = check(accept(listener, NULL, NULL), "accept");

	setsockopt(data, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	while (!stop && read(data, chunk, 1) == 1 && write(data, chunk, 1) == 1)
		moved(1);
	reset(data);
}

/* Its first datagram says where the guest is. */
static int host_udp(void)
{
	struct sockaddr_in guest;
	socklen_t length = sizeof guest;
	uint32_t word;
	int udp = udp_socket();

	check(bind(udp, (struct sockaddr *)&any, sizeof any), "bind");
	if (write(control, "!", 1) != 1)
		die("control");
	while (recvfrom(udp, &word, sizeof word, 0, (struct sockaddr *)&guest, &length) < 0)
		if (errno != EAGAIN)
			die("recvfrom");
	check(connect(udp, (struct sockaddr *)&guest, sizeof guest), "connect");
	return udp;
}

/* Until the guest says over its connection that it has understood. */
static void end_datagrams(int udp)
{
	struct pollfd ready = {.fd = control, .events = POLLIN};
	unsigned char end[PAYLOAD] = {0};

	memcpy(end, &END, sizeof END);
	do
		send(udp, end, sizeof end, 0);
	while (poll(&ready, 1, LOST_AFTER_MS) == 0);
	close(udp);
}

static void host_udp_out(void)
{
	int udp = host_udp();
	uint32_t came = 0, said = 0, before = 0;

	while (!stop) {
		receive_datagrams(udp, &came, &said);
		if (came != before)
			moved(came - before);
		before = came;
	}
	end_datagrams(udp);
}

static void host_udp_in(void)
{
	int udp = host_udp();

	begun = 1;
	say("begun");
	send_datagrams(udp, &count, &stop);
	end_datagrams(udp);
}

static const struct mode {
	const char *name;
	char letter;
	void (*host)(void);
} MODES[] = {
	{"tcp-out", 'o', host_tcp_out}, {"tcp-in", 'i', host_tcp_in},	{"rr", 'r', host_rr},
	{"udp-out", 'u', host_udp_out}, {"udp-in", 'v', host_udp_in},
};

static void run(const char *name)
{
	char done;

	for (size_t i = 0; i < sizeof MODES / sizeof *MODES; i++) {
		if (strcmp(MODES[i].name, name) != 0)
			continue;
		stop = 0;
		begun = 0;
		count = 0;
		if (write(control, &MODES[i].letter, 1) != 1)
			die("control");
		MODES[i].host();
		if (read(control, &done, 1) != 1)
			die("the guest is gone");
		say("stopped");
		return;
	}
	fprintf(stderr, "no mode %s\n", name);
	exit(2);
}

static int host(const char *port)
{
	char name[32];
	pthread_t commands;

	any.sin_port = htons((uint16_t)atoi(port));
	listener = tcp_socket();
	check(bind(listener, (struct sockaddr *)&any, sizeof any), "bind");
	check(listen(listener, 4), "listen");
	check(pipe(modes), "pipe");
	if (pthread_create(&commands, NULL, take_commands, NULL) != 0)
		die("pthread_create");
	say("listening");
	control = check(accept(listener, NULL, NULL), "accept");
	say("connected");
	while (read(modes[0], name, sizeof name) > 0)
		run(name);
	return 0;
}

/* ---- the guest ---- */

static struct sockaddr_in there = {.sin_family = AF_INET};

static int connected(int fd)
{
	check(connect(fd, (struct sockaddr *)&there, sizeof there), "connect");
	return fd;
}

static void guest_tcp_out(void)
{
	int data = connected(tcp_socket());

	while (write(data, chunk, sizeof chunk) > 0)
		;
	close(data);
}

static void guest_tcp_in(void)
{
	int data = connected(tcp_socket());

	while (read(data, chunk, sizeof chunk) > 0)
		;
	close(data);
}

static void guest_rr(void)
{
	int data = connected(tcp_socket());

	while (write(data, chunk, 1) == 1 && read(data, chunk, 1) == 1)
		;
	close(data);
}

/* The host's socket is there once it says so. */
static int guest_udp(int told)
{
	int udp = connected(udp_socket());
	char go;

	if (read(told, &go, 1) != 1 || send(udp, &DATA, sizeof DATA, 0) < 0)
		die("control");
	return udp;
}

static void guest_udp_out(int told)
{
	int udp = guest_udp(told);

	send_datagrams(udp, NULL, NULL);
	close(udp);
}

static void guest_udp_in(int told)
{
	int udp = guest_udp(told);
	uint32_t came = 0, said = 0;

	while (!receive_datagrams(udp, &came, &said))
		;
	close(udp);
}

static int guest(const char *address, const char *port)
{
	char letter;
	int told;

	there.sin_port = htons((uint16_t)atoi(port));
	if (inet_pton(AF_INET, address, &there.sin_addr) != 1)
		die(address);
	told = connected(tcp_socket());
	while (read(told, &letter, 1) == 1) {
		if (letter == 'o')
			guest_tcp_out();
		else if (letter == 'i')
			guest_tcp_in();
		else if (letter == 'r')
			guest_rr();
		else if (letter == 'u')
			guest_udp_out(told);
		else
			guest_udp_in(told);
		if (write(told, "d", 1) != 1)
			die("control");
	}
	return 0;
}

int main(int argc, char **argv)
{
	signal(SIGPIPE, SIG_IGN);
	if (argc == 3 && strcmp(argv[1], "host") == 0)
		return host(argv[2]);
	if (argc == 4 && strcmp(argv[1], "guest") == 0)
		return guest(argv[2], argv[3]);
	fprintf(stderr, "usage: traffic host PORT | traffic guest ADDRESS PORT\n");
	return 2;
}
