// SPDX-License-Identifier: Apache-2.0
/* Calls that a filter refuses before the kernel comes to them. */
#include "act.h"
#include <linux/bpf.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <stddef.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>

/* As a container runtime does it. */
static void refuse(__u32 number)
{
	struct sock_filter program[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	const struct sock_fprog filter = {
		.len = sizeof(program) / sizeof(*program),
		.filter = program,
	};

	must("no_new_privs", prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	must("seccomp", prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter, 0, 0));
}

static int act_mount(char **a)
{
	(void)a;
	refuse(SYS_mount);
	result(mount("something", "at", "tmpfs", MS_NOSUID, NULL));
	return 0;
}

static int act_bpf(char **a)
{
	union bpf_attr attr = { .prog_type = BPF_PROG_TYPE_SOCKET_FILTER };

	(void)a;
	refuse(SYS_bpf);
	result(syscall(SYS_bpf, BPF_PROG_LOAD, &attr, sizeof(attr)));
	return 0;
}

static int act_connect(char **a)
{
	const struct sockaddr_in there = {
		.sin_family = AF_INET,
		.sin_port = htons(9),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	int fd = must("socket", socket(AF_INET, SOCK_STREAM, 0));

	(void)a;
	refuse(SYS_connect);
	result(connect(fd, (const struct sockaddr *)&there, sizeof(there)));
	return 0;
}

/* PROGRAM ARGUMENT...: it cannot change its root. */
static int act_pivot_root_before(char **a)
{
	refuse(SYS_pivot_root);
	return must(a[0], execv(a[0], a));
}

static const struct act acts[] = {
	{ "mount", act_mount },
	{ "bpf", act_bpf },
	{ "connect", act_connect },
	{ "pivot_root_before", act_pivot_root_before },
	{ NULL, NULL },
};

int main(int argc, char **argv)
{
	return act_main(argc, argv, acts);
}
