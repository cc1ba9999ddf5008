// SPDX-License-Identifier: Apache-2.0
/*
 * E12: system calls of the 32-bit interface, made by a program of 64 bits. Each says its result
 * under the name of the call; most of them fail, since what they name does not exist.
 */
#include "act.h"
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/socket.h>

#ifdef __x86_64__
#define LOW_BYTES (1 << 16)

static char *low;
static size_t used;

/* A copy where a pointer of 32 bits leads to. */
static uint32_t place(const void *data, size_t size)
{
	char *to = low + used;

	memcpy(to, data, size);
	used += (size + 7) & ~(size_t)7;
	return (uintptr_t)to;
}

static uint32_t word(const char *text)
{
	return place(text, strlen(text) + 1);
}

#define NUMBERS(...) \
	place((uint32_t[]){ __VA_ARGS__ }, sizeof((uint32_t[]){ __VA_ARGS__ }))

static long enter(long number, const long *a)
{
	long done = number;
	long sixth = a[5];

	__asm__ volatile("xchg %%rbp, %1\n"
			 "int $0x80\n"
			 "xchg %%rbp, %1"
			 : "+a"(done), "+r"(sixth)
			 : "b"(a[0]), "c"(a[1]), "d"(a[2]), "S"(a[3]), "D"(a[4])
			 : "memory", "r8", "r9", "r10", "r11");
	return done;
}

#define CALL(name, number, ...) said(name, enter(number, (long[6]){ __VA_ARGS__ }))

/* A call whose first argument names a file that is not there: one with the name of the call. */
#define NAMING(name, number, ...) CALL(name, number, word(name), __VA_ARGS__)

#define HERE AT_FDCWD

static void on_names(int fd)
{
	NAMING("rename", 38, word("other"));
	CALL("renameat", 302, HERE, word("renameat"), HERE, word("other"));
	CALL("renameat2", 353, HERE, word("renameat2"), HERE, word("other"), 1);
	NAMING("link", 9, word("other"));
	CALL("linkat", 303, HERE, word("linkat"), HERE, word("other"), AT_SYMLINK_FOLLOW);
	CALL("symlink", 83, word("anywhere"), word("symlink"));
	CALL("symlinkat", 304, word("anywhere"), HERE, word("symlinkat"));
	NAMING("unlink", 10, 0);
	CALL("unlinkat", 301, HERE, word("unlinkat"), AT_REMOVEDIR);
	NAMING("rmdir", 40, 0);
	NAMING("chmod", 15, 0601);
	CALL("fchmod", 94, fd, 0602);
	CALL("fchmodat", 306, HERE, word("fchmodat"), 0603);
	CALL("fchmodat2", 452, HERE, word("fchmodat2"), 0604, 0);
	/* Ids of 16 bits, then of 32. */
	NAMING("chown16", 182, 1000, 0xffff);
	NAMING("lchown16", 16, 0xffff, 1001);
	CALL("fchown16", 95, fd, 1002, 0xffff);
	NAMING("chown", 212, 70000, -1);
	NAMING("lchown", 198, -1, 70001);
	CALL("fchown", 207, fd, 70002, -1);
	CALL("fchownat", 298, HERE, word("fchownat"), 1003, 1004, 0);
	CALL("open_by_handle_at", 342, HERE, NUMBERS(0, 0), O_RDONLY);
}

static void on_mounts(void)
{
	CALL("mount", 21, word("none"), word("mount"), word("tmpfs"), 1, 0);
	CALL("move_mount", 429, HERE, word("from"), HERE, word("move_mount"), 0);
	CALL("mount_setattr", 442, HERE, word("mount_setattr"), 0, NUMBERS(1, 0, 0, 0, 0, 0, 0, 0),
	     32);
	NAMING("umount", 52, 2);
	NAMING("oldumount", 22, 0);
	NAMING("pivot_root", 217, word("put_old"));
	NAMING("chroot", 61, 0);
}

static void on_sockets(int socket)
{
	/* struct sockaddr_un. */
	uint32_t name = place("\1\0ia32", sizeof("\1\0ia32"));

	CALL("socket", 359, AF_INET, SOCK_DGRAM, 0);
	/* The first system call for sockets: the first argument says which one is meant. */
	CALL("socketcall", 102, 1, NUMBERS(AF_INET6, SOCK_DGRAM, 0));
	CALL("bind", 361, socket, name, 200);
	CALL("connect", 362, socket, name, 2 + 4);
	CALL("listen", 363, socket, 7);
	CALL("accept", 364, socket, 0, 0, 0);
	CALL("dup", 41, socket);
	CALL("dup2", 63, socket, 101);
	CALL("dup3", 330, socket, 102, 0);
	CALL("fcntl", 55, socket, F_DUPFD, 103);
	CALL("fcntl64", 221, socket, F_DUPFD, 104);
	CALL("pidfd_getfd", 438, -1, 105, 0);
}

static void on_memory(int fd)
{
	uint32_t page = (uintptr_t)low + LOW_BYTES - 4096;
	uint32_t vector = NUMBERS(0x12345, 1, 0x23456, 1);

	CALL("mmap2", 192, 0, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0);
	CALL("mmap", 90, NUMBERS(0, 8192, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0));
	CALL("mprotect", 125, page, 4096, PROT_READ | PROT_EXEC);
	CALL("pkey_mprotect", 380, page, 4096, PROT_EXEC, -1);
	CALL("memfd_create", 356, word("ia32"), 0);
	CALL("memfd_secret", 447, 0x40000000);
	CALL("ptrace", 26, 16, -1, 0x1234, 0x5678);
	CALL("process_vm_readv", 347, -1, vector, 1, vector + 8, 1, 0);
	CALL("process_vm_writev", 348, -1, vector, 1, vector, 1, 0);
	CALL("userfaultfd", 374, 0x40000000);
}

static void on_privileges(void)
{
	int namespace = must("namespace", open("/proc/self/ns/uts", O_RDONLY));

	CALL("capset", 185, 0, 0);
	CALL("unshare", 310, 0x04002000);
	CALL("setns", 346, namespace, 0x40000000);
	CALL("keyctl", 288, 6, 0x7fffff00);
	CALL("add_key", 286, word("no-such-type"), word("ia32"), 0, 0, -2);
	CALL("request_key", 287, word("user"), word("nodeagent-ia32"), 0, 0);
}

static void on_system(int fd)
{
	const long nobody = INT_MAX;

	CALL("init_module", 128, 0, 0, word("ia32=1"));
	CALL("finit_module", 350, fd, word("ia32=2"), 1);
	CALL("delete_module", 129, word("no_such_ia32"), O_NONBLOCK);
	/* BPF_PROG_GET_FD_BY_ID. */
	CALL("bpf", 357, 13, NUMBERS(0x7fffffff, 0, 0), 12);
	CALL("kill", 37, nobody, 1);
	CALL("tkill", 238, nobody, 2);
	CALL("tgkill", 270, nobody, nobody, 3);
	CALL("rt_sigqueueinfo", 178, nobody, 4, place((char[128]){ 0 }, 128));
	CALL("rt_tgsigqueueinfo", 335, nobody, nobody, 5, place((char[128]){ 0 }, 128));
	CALL("pidfd_send_signal", 424, -1, 6, 0, 0);
	CALL("io_uring_setup", 425, 0, place((char[128]){ 0 }, 128));
	CALL("execve", 11, word("execve"), NUMBERS(word("nowhere"), word("nothing"), 0), 0);
	CALL("execveat", 358, HERE, word("execveat"), NUMBERS(word("at"), word("nothing"), 0), 0,
	     0);
}
#endif

static int act_calls(char **a)
{
	(void)a;
#ifdef __x86_64__
	int fd = must("file", open("file", O_CREAT | O_RDWR, 0600));

	must("file", ftruncate(fd, 8192));
	low = mmap(NULL, LOW_BYTES, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
	must("memory", low == MAP_FAILED ? -1 : 0);
	on_names(fd);
	on_mounts();
	on_sockets(must("socket", socket(AF_UNIX, SOCK_STREAM, 0)));
	on_memory(fd);
	on_privileges();
	on_system(fd);
#else
	said("result", -ENOSYS);
#endif
	return 0;
}

static const struct act acts[] = {
	{ "calls", act_calls },
	{},
};

int main(int argc, char **argv)
{
	return act_main(argc, argv, acts);
}
