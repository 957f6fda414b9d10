// Feeds an interface with equal frames as fast as it takes them, so that every receiver is measured with one source.
// AF_PACKET past the queueing discipline: packet(7), PACKET_QDISC_BYPASS. It must have ended before the interface goes, or
// Linux 6.12 divides by the number of its queues, which is 0 then, in packet_xmit().
// Usage: inject IFNAME LENGTH     LENGTH in bytes without FCS; ends with SIGTERM.
#define _GNU_SOURCE /* sendmmsg */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum { BATCH = 32, LONGEST = 65535 };

static int open_socket(const char *ifname)
{
	struct sockaddr_ll address = {
		.sll_family = AF_PACKET,
		.sll_protocol = htons(ETH_P_IP),
		.sll_ifindex = (int)if_nametoindex(ifname),
	};
	int bypass = 1;
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
	if (fd < 0 || address.sll_ifindex == 0 || bind(fd, (struct sockaddr *)&address, sizeof address) < 0 ||
	    setsockopt(fd, SOL_PACKET, PACKET_QDISC_BYPASS, &bypass, sizeof bypass) < 0) {
		perror(ifname);
		exit(1);
	}
	return fd;
}

int main(int argc, char **argv)
{
	static unsigned char frame[LONGEST];
	struct iovec part = {.iov_base = frame};
	struct mmsghdr messages[BATCH];
	int fd;

	if (argc != 3 || (part.iov_len = strtoul(argv[2], NULL, 10)) < ETH_HLEN || part.iov_len > LONGEST) {
		fprintf(stderr, "usage: inject IFNAME LENGTH\n");
		return 2;
	}
	memset(frame, 2, 2 * ETH_ALEN); /* locally administered, and nobody's */
	frame[2 * ETH_ALEN] = ETH_P_IP >> 8;
	memset(messages, 0, sizeof messages);
	for (int i = 0; i < BATCH; i++) {
		messages[i].msg_hdr.msg_iov = &part;
		messages[i].msg_hdr.msg_iovlen = 1;
	}
	fd = open_socket(argv[1]);
	for (;;) {
		if (sendmmsg(fd, messages, BATCH, MSG_DONTWAIT) >= 0)
			continue;
		if (errno != ENOBUFS && errno != EAGAIN) {
			perror("sendmmsg");
			return 1;
		}
		sched_yield();
	}
}
