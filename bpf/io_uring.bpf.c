// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Rings of io_uring, and what is done through them past the system calls. */
#include <vmlinux.h>
#include <bpf/bpf_tracing.h>
#include "call.h"
#include "emit.h"
#include "path.h"
#include "socket.h"

/* IORING_OP_*, as far as they are looked at. */
enum operation {
	DO_SENDMSG = 9,
	DO_ACCEPT = 13,
	DO_CONNECT = 16,
	DO_OPENAT = 18,
	DO_SEND = 26,
	DO_OPENAT2 = 28,
	DO_RENAMEAT = 35,
	DO_UNLINKAT = 36,
	DO_MKDIRAT = 37,
	DO_SYMLINKAT = 38,
	DO_LINKAT = 39,
	DO_SETXATTR = 42,
	DO_SOCKET = 45,
	DO_SEND_ZC = 47,
	DO_SENDMSG_ZC = 48,
	DO_FTRUNCATE = 55,
	DO_BIND = 56,
	DO_LISTEN = 57,
};

#define BIT(operation) (1ULL << (operation))
#define SENDS (BIT(DO_SEND) | BIT(DO_SENDMSG) | BIT(DO_SEND_ZC) | BIT(DO_SENDMSG_ZC))
#define ON_SOCKETS (SENDS | BIT(DO_ACCEPT) | BIT(DO_CONNECT) | BIT(DO_BIND) | BIT(DO_LISTEN))
#define NAMING                                                                    \
	(BIT(DO_OPENAT) | BIT(DO_OPENAT2) | BIT(DO_RENAMEAT) | BIT(DO_UNLINKAT) | \
	 BIT(DO_MKDIRAT) | BIT(DO_SYMLINKAT) | BIT(DO_LINKAT))
/* Reads, writes, polls and timers come by the million and say nothing new of the file. */
#define REPORTED (ON_SOCKETS | NAMING | BIT(DO_SETXATTR) | BIT(DO_SOCKET) | BIT(DO_FTRUNCATE))

#define RECENT_SENDS 4096
#define NO_FD (~0U)

/* Hashes of who sends on what; a collision reports one send more. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, RECENT_SENDS);
	__type(key, __u32);
	__type(value, __u64);
} recent_sends SEC(".maps");

/* Before commit 97b388d70b53 (v5.19) the descriptor was not kept here. */
static __always_inline __u32 fd_of(struct io_kiocb *request)
{
	if (bpf_core_field_exists(request->cqe.fd))
		return BPF_CORE_READ(request, cqe.fd);
	return NO_FD;
}

/* A program that goes on sending on a socket says nothing new. */
static __always_inline bool is_sent_before(struct io_uring_event *event, struct file *file)
{
	__u64 hash = ((__u64)file ^ event->event.task.start_time) * 0x9e3779b97f4a7c15;
	__u32 index;
	__u64 *recent;

	hash += (__u64)event->event.task.exec_id << 32 | event->event.task.pid;
	hash *= 0x9e3779b97f4a7c15;
	index = hash >> 32 & (RECENT_SENDS - 1);
	recent = bpf_map_lookup_elem(&recent_sends, &index);
	if (!recent || *recent == hash)
		return recent != NULL;
	*recent = hash;
	return false;
}

/* Names got a struct of their own with merge 26c9342bb761 (v7.0). */
struct delayed_filename___since_v7_0 {
	struct filename *__incomplete_filename;
};

struct io_rename___before_v7_0 {
	struct filename *oldpath;
};

struct io_rename___since_v7_0 {
	struct delayed_filename___since_v7_0 oldpath;
};

struct io_unlink___before_v7_0 {
	struct filename *filename;
};

struct io_unlink___since_v7_0 {
	struct delayed_filename___since_v7_0 filename;
};

struct io_mkdir___before_v7_0 {
	struct filename *filename;
};

struct io_mkdir___since_v7_0 {
	struct delayed_filename___since_v7_0 filename;
};

struct io_link___before_v7_0 {
	struct filename *oldpath;
};

struct io_link___since_v7_0 {
	struct delayed_filename___since_v7_0 oldpath;
};

struct io_open___before_v7_0 {
	struct filename *filename;
};

struct io_open___since_v7_0 {
	struct delayed_filename___since_v7_0 filename;
};

/* NULL where the kernel does not have such requests. */
#define NAME_IN(type, request, field)                                                     \
	(bpf_core_field_exists(struct type##___since_v7_0, field.__incomplete_filename) ? \
		 BPF_CORE_READ((struct type##___since_v7_0 *)(request),                   \
			       field.__incomplete_filename) :                             \
	 bpf_core_field_exists(struct type##___before_v7_0, field) ?                      \
		 BPF_CORE_READ((struct type##___before_v7_0 *)(request), field) :         \
		 NULL)

/* Where each request keeps the name that it has copied into the kernel. */
static __always_inline const char *name_of(struct io_kiocb *request, __u32 operation)
{
	struct filename *name = NULL;

	if (operation == DO_RENAMEAT)
		name = NAME_IN(io_rename, request, oldpath);
	else if (operation == DO_UNLINKAT)
		name = NAME_IN(io_unlink, request, filename);
	else if (operation == DO_MKDIRAT)
		name = NAME_IN(io_mkdir, request, filename);
	else if (operation == DO_LINKAT || operation == DO_SYMLINKAT)
		name = NAME_IN(io_link, request, oldpath);
	else
		name = NAME_IN(io_open, request, filename);
	return BPF_CORE_READ(name, name);
}

/* The peer: where the request wants to go, or where the socket is connected. */
static __always_inline void fill_peer(struct io_uring_event *event, struct io_kiocb *request,
				      struct file *file)
{
	struct socket *socket = socket_of(file);
	struct sock *sk;

	if (event->operation == DO_CONNECT) {
		fill_passed_endpoint(&event->remote,
				     BPF_CORE_READ((struct io_connect *)request, addr));
		return;
	}
	if (!socket)
		return;
	sk = BPF_CORE_READ(socket, sk);
	fill_remote(&event->remote, sk, BPF_CORE_READ(sk, __sk_common.skc_family));
}

/* @request is NULL where the kernel does not tell it. */
static __always_inline int submitted(struct io_kiocb *request, __u32 operation)
{
	struct io_uring_event *event;
	struct file *file = NULL;

	if (operation > 63 || !(REPORTED & BIT(operation)))
		return 0;
	event = emit_reserve(EVENT_IO_URING, sizeof(*event));
	if (!event)
		return 0;
	event->operation = operation;
	event->fd = NO_FD;
	if (request && ON_SOCKETS & BIT(operation)) {
		event->fd = fd_of(request);
		file = event->fd == NO_FD ? BPF_CORE_READ(request, file) : file_of(event->fd);
		fill_peer(event, request, file);
	}
	if (SENDS & BIT(operation) && is_sent_before(event, file)) {
		emit_cancel(event, EVENT_IO_URING);
		return 0;
	}
	if (request && NAMING & BIT(operation))
		append_string(event, &event->argument, name_of(request, operation), PATH_BYTES,
			      false);
	emit_submit(event, EVENT_IO_URING);
	return 0;
}

/* void io_uring_submit_req(struct io_kiocb *req) */
SEC("tp_btf/io_uring_submit_req")
int BPF_PROG(on_submit_request, struct io_kiocb *request)
{
	return submitted(request, BPF_CORE_READ(request, opcode));
}

/*
 * Its name before commit 2ad57931db64 (v6.4), with arguments that changed:
 *   v5.19  void io_uring_submit_sqe(struct io_kiocb *req, bool force_nonblock)
 *   v5.16  void io_uring_submit_sqe(void *ctx, void *req, u64 user_data, u8 opcode, ...)
 *   v5.8   void io_uring_submit_sqe(void *ctx, u8 opcode, u64 user_data, bool force_nonblock, ...)
 */
SEC("tp_btf/io_uring_submit_sqe")
int on_submit_sqe(__u64 *context)
{
	struct io_kiocb *request;

	if (constants.submit_sqe_arguments == 2) {
		request = (struct io_kiocb *)context[0];
		return submitted(request, BPF_CORE_READ(request, opcode));
	}
	if (constants.submit_sqe_arguments == 5)
		return submitted(NULL, context[1] & 0xff);
	request = (struct io_kiocb *)context[1];
	return submitted(request, BPF_CORE_READ(request, opcode));
}

/* long io_uring_setup(u32 entries, struct io_uring_params *params) */
AFTER(io_uring_setup, sys_io_uring_setup)
{
	struct io_uring_event *event = emit_reserve(EVENT_IO_URING, sizeof(*event));

	if (!event)
		return 0;
	event->event.result = result;
	event->operation = ~0U;
	event->fd = result >= 0 ? result : NO_FD;
	event->entries = passed->first;
	/* struct io_uring_params: two sizes, then the flags. */
	bpf_probe_read_user(&event->flags, sizeof(event->flags), (void *)(passed->second + 8));
	emit_submit(event, EVENT_IO_URING);
	return 0;
}
