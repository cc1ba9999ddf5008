// SPDX-License-Identifier: Apache-2.0
/* Things that a program does through io_uring, without any library for it. */
#include "act.h"
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <netinet/in.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#define ENTRIES 8

struct ring {
	int fd;
	unsigned *submitted_tail;
	unsigned *submitted_array;
	unsigned *completed_head;
	unsigned *completed_tail;
	struct io_uring_sqe *requests;
	struct io_uring_cqe *completions;
};

static void *map(int fd, size_t bytes, off_t offset)
{
	void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, offset);

	return at == MAP_FAILED ? NULL : at;
}

/* Says what the kernel answers; false when there is no io_uring. */
static int set_up(struct ring *ring, unsigned entries)
{
	struct io_uring_params facts = { .flags = IORING_SETUP_CLAMP };
	long fd = syscall(SYS_io_uring_setup, entries, &facts);
	char *submitted;
	char *completed;

	said("setup", fd < 0 ? -errno : fd);
	if (fd < 0)
		return 0;
	ring->fd = fd;
	submitted = map(fd, facts.sq_off.array + facts.sq_entries * sizeof(unsigned),
			IORING_OFF_SQ_RING);
	completed = map(fd, facts.cq_off.cqes + facts.cq_entries * sizeof(struct io_uring_cqe),
			IORING_OFF_CQ_RING);
	ring->requests =
		map(fd, facts.sq_entries * sizeof(struct io_uring_sqe), IORING_OFF_SQES);
	ring->submitted_tail = (unsigned *)(submitted + facts.sq_off.tail);
	ring->submitted_array = (unsigned *)(submitted + facts.sq_off.array);
	ring->completed_head = (unsigned *)(completed + facts.cq_off.head);
	ring->completed_tail = (unsigned *)(completed + facts.cq_off.tail);
	ring->completions = (struct io_uring_cqe *)(completed + facts.cq_off.cqes);
	return 1;
}

/* Submits the first request and waits for its result. */
static int finish(struct ring *ring)
{
	unsigned head = *ring->completed_head;

	ring->submitted_array[0] = 0;
	__atomic_store_n(ring->submitted_tail, *ring->submitted_tail + 1, __ATOMIC_RELEASE);
	must("io_uring_enter", syscall(SYS_io_uring_enter, ring->fd, 1, 1, IORING_ENTER_GETEVENTS,
				       NULL, 0));
	if (__atomic_load_n(ring->completed_tail, __ATOMIC_ACQUIRE) == head)
		return -EAGAIN;
	__atomic_store_n(ring->completed_head, head + 1, __ATOMIC_RELEASE);
	/* The next request uses the same place again. */
	__atomic_store_n(ring->submitted_tail, *ring->submitted_tail, __ATOMIC_RELEASE);
	return ring->completions[head % (2 * ENTRIES)].res;
}

static struct io_uring_sqe *request(struct ring *ring, int operation)
{
	/* Each ring makes few requests, so that none is used twice before it is done. */
	struct io_uring_sqe *sqe = &ring->requests[0];

	memset(sqe, 0, sizeof(*sqe));
	sqe->opcode = operation;
	return sqe;
}

static int act_setup(char **a)
{
	struct ring ring;

	set_up(&ring, atoi(a[0]));
	return 0;
}

static int act_open(char **a)
{
	struct ring ring;
	struct io_uring_sqe *sqe;

	close(must("creat", creat(a[0], 0600)));
	if (!set_up(&ring, ENTRIES))
		return 0;
	sqe = request(&ring, IORING_OP_OPENAT);
	sqe->fd = AT_FDCWD;
	sqe->addr = (uintptr_t)a[0];
	sqe->open_flags = O_RDONLY;
	said("done", finish(&ring));
	return 0;
}

static int act_unlink(char **a)
{
	struct ring ring;
	struct io_uring_sqe *sqe;

	close(must("creat", creat(a[0], 0600)));
	if (!set_up(&ring, ENTRIES))
		return 0;
	sqe = request(&ring, IORING_OP_UNLINKAT);
	sqe->fd = AT_FDCWD;
	sqe->addr = (uintptr_t)a[0];
	said("done", finish(&ring));
	return 0;
}

static int connected(struct ring *ring, struct sockaddr_in *address)
{
	socklen_t length = sizeof(*address);
	int listener = must("socket", socket(AF_INET, SOCK_STREAM, 0));
	int client = must("socket", socket(AF_INET, SOCK_STREAM, 0));
	struct io_uring_sqe *sqe;

	*address = (struct sockaddr_in){ .sin_family = AF_INET,
					 .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	must("bind", bind(listener, (struct sockaddr *)address, sizeof(*address)));
	must("listen", listen(listener, 1));
	getsockname(listener, (struct sockaddr *)address, &length);
	said("port", ntohs(address->sin_port));
	said("fd", client);
	if (!set_up(ring, ENTRIES))
		return -1;
	sqe = request(ring, IORING_OP_CONNECT);
	sqe->fd = client;
	sqe->addr = (uintptr_t)address;
	sqe->off = sizeof(*address);
	said("done", finish(ring));
	return client;
}

static int act_connect(char **a)
{
	struct sockaddr_in address;
	struct ring ring;

	(void)a;
	connected(&ring, &address);
	return 0;
}

static int act_send(char **a)
{
	struct sockaddr_in address;
	struct ring ring;
	int client = connected(&ring, &address);
	struct io_uring_sqe *sqe;

	(void)a;
	if (client < 0)
		return 0;
	for (int round = 0; round < 3; round++) {
		sqe = request(&ring, IORING_OP_SEND);
		sqe->fd = client;
		sqe->addr = (uintptr_t) "secret";
		sqe->len = 6;
		said("sent", finish(&ring));
	}
	return 0;
}

static const struct act acts[] = {
	{ "setup", act_setup },	    { "open", act_open }, { "unlink", act_unlink },
	{ "connect", act_connect }, { "send", act_send }, { NULL, NULL },
};

int main(int argc, char **argv)
{
	return act_main(argc, argv, acts);
}
