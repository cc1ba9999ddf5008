// SPDX-License-Identifier: Apache-2.0
/*
 * E12: system calls of other interfaces than the usual one. On x86 a program of 64 bits makes
 * those of 32 bits and of x32, on arm64 it runs a program of 32 bits that is made here.
 *
 * Act "calls" says each result under the name of the call; most of them fail, since what they
 * name does not exist.
 */
#include "act.h"
#include <errno.h>
#include <elf.h>
#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>

/* struct clone_args. */
struct how {
	uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls;
};

#define NR_CLONE3 435

/* A call that this architecture does not have. */
static int absent(char **a)
{
	(void)a;
	said("result", -ENOSYS);
	return 0;
}

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

#define NUMBERS(...) place((uint32_t[]){ __VA_ARGS__ }, sizeof((uint32_t[]){ __VA_ARGS__ }))

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
	/* SO_ATTACH_FILTER of nothing; 14 is setsockopt among the calls for sockets. */
	CALL("setsockopt", 366, socket, SOL_SOCKET, 26, NUMBERS(7, 0), 8);
	CALL("socketcall_setsockopt", 102, 14,
	     NUMBERS(socket, SOL_SOCKET, 26, NUMBERS(8, 0), 8));
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

static void map_low(void)
{
	low = mmap(NULL, LOW_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT,
		   -1, 0);
	must("memory", low == MAP_FAILED ? -1 : 0);
}

static int act_calls(char **a)
{
	int fd = must("file", open("file", O_CREAT | O_RDWR, 0600));

	(void)a;
	must("file", ftruncate(fd, 8192));
	map_low();
	on_names(fd);
	on_mounts();
	on_sockets(must("socket", socket(AF_UNIX, SOCK_STREAM, 0)));
	on_memory(fd);
	on_privileges();
	on_system(fd);
	return 0;
}

/* The child ends at once by exit(2), before it touches what it may share with its parent. */
static long enter_child(long number, long first, long second)
{
	long done = number;

	__asm__ volatile("int $0x80\n"
			 "test %%eax, %%eax\n"
			 "jnz 1f\n"
			 "xor %%ebx, %%ebx\n"
			 "mov $1, %%eax\n"
			 "int $0x80\n"
			 "1:"
			 : "+a"(done)
			 : "b"(first), "c"(second), "d"(0), "S"(0), "D"(0)
			 : "cc", "memory", "r8", "r9", "r10", "r11");
	return (int)done;
}

/* child NUMBER FLAGS: one of fork(2) and its siblings. */
static int act_child(char **a)
{
	long number = atol(a[0]);
	struct how how = { .flags = strtoul(a[1], NULL, 0), .exit_signal = SIGCHLD };
	long done;

	map_low();
	if (number == NR_CLONE3)
		done = enter_child(number, place(&how, sizeof(how)), sizeof(how));
	else
		done = enter_child(number, how.flags | SIGCHLD, 0);
	if (said("result", done) > 0)
		waitpid(done, NULL, 0);
	return 5;
}

/* The end of the only thread, and not of the process. */
static int act_leave(char **a)
{
	enter(1, (long[6]){ atoi(a[0]) });
	return 1;
}

/* unlink(2) with the bit that says x32. */
static int act_x32_unlink(char **a)
{
	(void)a;
	result(syscall(0x40000000 | SYS_unlink, "x32"));
	return 0;
}

#define act_arm32_unlink absent
#else
#define BASE 0x10000

/* A program of 32 bits that makes one call and ends by exit(2). */
struct narrow {
	Elf32_Ehdr head;
	Elf32_Phdr segment;
	uint32_t code[10];
	uint32_t first;
	uint32_t second;
	uint32_t number;
	uint32_t zero;
	struct how how;
	char name[8];
};

#define ADDRESS(member) (BASE + offsetof(struct narrow, member))

static struct narrow narrow(uint32_t number, uint32_t first, uint32_t second, uint32_t code)
{
	return (struct narrow){
		.head = { .e_ident = { ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS32, ELFDATA2LSB,
				       EV_CURRENT },
			  .e_type = ET_EXEC,
			  .e_machine = EM_ARM,
			  .e_version = EV_CURRENT,
			  .e_entry = ADDRESS(code),
			  .e_phoff = offsetof(struct narrow, segment),
			  .e_flags = EF_ARM_EABI_VER5,
			  .e_ehsize = sizeof(Elf32_Ehdr),
			  .e_phentsize = sizeof(Elf32_Phdr),
			  .e_phnum = 1 },
		.segment = { .p_type = PT_LOAD,
			     .p_vaddr = BASE,
			     .p_paddr = BASE,
			     .p_filesz = sizeof(struct narrow),
			     .p_memsz = sizeof(struct narrow),
			     .p_flags = PF_R | PF_X,
			     .p_align = BASE },
		/* ldr r0, first; ldr r1, second; ldr r7, number; mov r2, #0; mov r3, #0; mov r4, #0;
		 * svc #0; mov r0, #code; mov r7, #1; svc #0 */
		.code = { 0xe59f0020, 0xe59f1020, 0xe59f7020, 0xe3a02000, 0xe3a03000, 0xe3a04000,
			  0xef000000, 0xe3a00000 | code, 0xe3a07001, 0xef000000 },
		.first = first,
		.second = second,
		.number = number,
		.name = "arm32",
	};
}

/* Become it; a kernel that knows no programs of 32 bits has no such call. */
static int become(const struct narrow *program)
{
	int fd = must("narrow", open("program", O_CREAT | O_WRONLY | O_CLOEXEC, 0755));

	must("narrow", write(fd, program, sizeof(*program)));
	close(fd);
	/* Its result is none that it could say. */
	execl("program", "act", NULL);
	said("result", errno == ENOEXEC ? -ENOSYS : -errno);
	return 5;
}

/* child NUMBER FLAGS: one of fork(2) and its siblings. */
static int act_child(char **a)
{
	uint32_t number = atol(a[0]);
	struct how how = { .flags = strtoul(a[1], NULL, 0), .exit_signal = SIGCHLD };
	struct narrow program = narrow(number, how.flags | SIGCHLD, 0, 5);

	if (number == NR_CLONE3)
		program = narrow(number, ADDRESS(how), sizeof(how), 5);
	program.how = how;
	return become(&program);
}

/* The end of the only thread, and not of the process; the call before it fails. */
static int act_leave(char **a)
{
	struct narrow program = narrow(~0U, 0, 0, atoi(a[0]));

	return become(&program);
}

static int act_arm32_unlink(char **a)
{
	struct narrow program = narrow(10, ADDRESS(name), 0, 0);

	(void)a;
	return become(&program);
}

#define act_calls absent
#define act_x32_unlink absent
#endif

static const struct act acts[] = {
	{ "calls", act_calls },
	{ "child", act_child },
	{ "leave", act_leave },
	{ "x32_unlink", act_x32_unlink },
	{ "arm32_unlink", act_arm32_unlink },
	{ NULL, NULL },
};

int main(int argc, char **argv)
{
	return act_main(argc, argv, acts);
}
