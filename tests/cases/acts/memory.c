// SPDX-License-Identifier: Apache-2.0
/* Acts on executable memory, files in memory, and the memory of other processes. */
#include "act.h"
#include <elf.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <time.h>

#define PAGE 4096L
/* No process has it: the largest that pid_max allows. */
#define NOBODY_THERE 4194303

#ifndef SYS_memfd_secret
#define SYS_memfd_secret 447
#endif

static volatile uint64_t word = 0x1122334455667788;

/* As the stream shows it. */
static void said_time(const char *name, const struct timespec *time)
{
	char second[32], whole[64];
	struct tm parts;

	gmtime_r(&time->tv_sec, &parts);
	strftime(second, sizeof(second), "%FT%T", &parts);
	snprintf(whole, sizeof(whole), "%s.%09ldZ", second, time->tv_nsec);
	said_text(name, whole);
}

/* "library", opened by a link to it. */
static int open_library(int flags)
{
	struct stat facts;
	char device[32];
	int fd;

	fd = must("library", open("library", O_RDWR | O_CREAT, 0755));
	must("chmod", fchmod(fd, 0755));
	must("truncate", ftruncate(fd, 4 * PAGE));
	must("link", symlink("library", "link"));
	close(fd);
	fd = must("link", open("link", flags));
	must("stat", fstat(fd, &facts));
	snprintf(device, sizeof(device), "%u:%u", major(facts.st_dev), minor(facts.st_dev));
	said_text("device", device);
	said("inode", facts.st_ino);
	said_time("changed", &facts.st_ctim);
	return fd;
}

static long map(size_t length, int protection, int flags, int fd)
{
	return syscall(SYS_mmap, NULL, length, protection, flags, fd, 0);
}

static int say_map(long address)
{
	result(address == -1 ? -1 : 0);
	said("address", address);
	return 0;
}

static int act_mmap_library(char **a)
{
	(void)a;
	return say_map(map(2 * PAGE, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_DENYWRITE,
			   open_library(O_RDONLY)));
}

static int act_mmap_shared(char **a)
{
	(void)a;
	return say_map(map(PAGE, PROT_WRITE | PROT_EXEC, MAP_SHARED, open_library(O_RDWR)));
}

static int act_mmap_anonymous(char **a)
{
	(void)a;
	return say_map(
		map(3 * PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1));
}

static int act_mmap_memfd(char **a)
{
	int fd = must("memfd", syscall(SYS_memfd_create, "code", 0));

	(void)a;
	must("truncate", ftruncate(fd, PAGE));
	return say_map(map(PAGE, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd));
}

/* A file that may not be read. */
static int act_mmap_denied(char **a)
{
	(void)a;
	result(map(PAGE, PROT_READ | PROT_EXEC, MAP_PRIVATE, open_library(O_WRONLY)));
	return 0;
}

static int act_mmap_badfd(char **a)
{
	(void)a;
	result(syscall(SYS_mmap, 0x10000000, PAGE, PROT_READ | PROT_EXEC, MAP_PRIVATE, 77, 0));
	return 0;
}

/* Neither code from a file nor memory that can be written and executed, and then that. */
static int act_mmap_quietly(char **a)
{
	int fd = open_library(O_RDONLY);

	(void)a;
	must("read", map(PAGE, PROT_READ, MAP_PRIVATE, fd));
	must("write", map(PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd));
	must("execute", map(PAGE, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1));
	return say_map(map(PAGE, PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1));
}

static int protect(long address, size_t length, int protection)
{
	said("address", address);
	result(syscall(SYS_mprotect, address, length, protection));
	return 0;
}

static int act_mprotect_anonymous(char **a)
{
	long pages = must("mmap",
			  map(4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1));

	(void)a;
	return protect(pages + PAGE, 2 * PAGE, PROT_READ | PROT_EXEC);
}

static int act_mprotect_heap(char **a)
{
	long heap = (long)sbrk(4 * PAGE);

	(void)a;
	return protect((heap + PAGE) & -PAGE, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC);
}

static int act_mprotect_stack(char **a)
{
	long stack = (long)__builtin_frame_address(0);

	(void)a;
	return protect(stack & -PAGE, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC);
}

static int act_mprotect_file(char **a)
{
	long pages = must("mmap", map(2 * PAGE, PROT_READ, MAP_PRIVATE, open_library(O_RDONLY)));

	(void)a;
	return protect(pages, PAGE, PROT_READ | PROT_EXEC);
}

/* Areas do not merge when their neighbours are not like them. */
static int act_mprotect_one_of_many(char **a)
{
	long pages = must("mmap", map(3000 * PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1));

	(void)a;
	for (int page = 0; page < 3000; page += 2)
		must("mprotect", syscall(SYS_mprotect, pages + page * PAGE, PAGE, PROT_WRITE));
	return protect(pages + 1234 * PAGE, PAGE, PROT_EXEC);
}

/* First without the right to execute. */
static int act_mprotect_quietly(char **a)
{
	long pages = must("mmap", map(PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1));

	(void)a;
	must("mprotect", syscall(SYS_mprotect, pages, PAGE, PROT_READ | PROT_WRITE));
	return protect(pages, PAGE, PROT_READ | PROT_EXEC);
}

/* Nothing is mapped there. */
static int act_mprotect_nothing(char **a)
{
	long pages = must("mmap", map(PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1));

	(void)a;
	munmap((void *)pages, PAGE);
	return protect(pages, PAGE, PROT_READ | PROT_EXEC);
}

/* Writes to the memory would be writes to a file that was opened for reading. */
static int act_mprotect_denied(char **a)
{
	long pages = must("mmap", map(PAGE, PROT_READ, MAP_SHARED, open_library(O_RDONLY)));

	(void)a;
	return protect(pages, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC);
}

static int act_pkey_mprotect(char **a)
{
	long pages = must("mmap",
			  map(PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1));

	(void)a;
	said("address", pages);
	result(syscall(SYS_pkey_mprotect, pages, PAGE, PROT_READ | PROT_EXEC, -1));
	return 0;
}

static int act_pkey_mprotect_badkey(char **a)
{
	long pages = must("mmap", map(PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1));

	(void)a;
	said("address", pages);
	result(syscall(SYS_pkey_mprotect, pages, PAGE, PROT_READ | PROT_EXEC, 99));
	return 0;
}

static int act_memfd(char **a)
{
	(void)a;
	result(syscall(SYS_memfd_create, "../odd name\x01\xff", MFD_CLOEXEC | MFD_ALLOW_SEALING));
	return 0;
}

static int act_memfd_nameless(char **a)
{
	(void)a;
	result(syscall(SYS_memfd_create, "", 0));
	return 0;
}

static int act_memfd_badflags(char **a)
{
	(void)a;
	result(syscall(SYS_memfd_create, "never made", MFD_CLOEXEC | 0x40000000));
	return 0;
}

static int act_memfd_secret(char **a)
{
	(void)a;
	result(syscall(SYS_memfd_secret, O_CLOEXEC));
	return 0;
}

static int act_memfd_secret_badflags(char **a)
{
	(void)a;
	result(syscall(SYS_memfd_secret, 0x40000000));
	return 0;
}

static void wait_forever(void)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (;;)
		pause();
}

static pid_t start_child(void)
{
	pid_t child = must("fork", fork());

	if (!child)
		wait_forever();
	said("child", child);
	return child;
}

static int end_child(pid_t child)
{
	kill(child, SIGKILL);
	while (waitpid(child, NULL, __WALL) < 0 && errno == EINTR)
		;
	return 0;
}

static long trace(long request, long pid, const volatile void *address, uintptr_t data)
{
	return syscall(SYS_ptrace, request, pid, address, data);
}

/* Runs what follows without the rights of root. */
static void drop_rights(void)
{
	must("setresuid", setresuid(65534, 65534, 0));
}

static void take_rights_back(void)
{
	must("setresuid", setresuid(0, 0, 0));
}

static int act_ptrace_attach(char **a)
{
	pid_t child = start_child();
	char path[PATH_MAX] = "";

	(void)a;
	must("exe", readlink("/proc/self/exe", path, sizeof(path) - 1));
	said_text("path", path);
	result(trace(PTRACE_ATTACH, child, NULL, 0));
	return end_child(child);
}

static int act_ptrace_seize(char **a)
{
	pid_t child = start_child();

	(void)a;
	result(trace(PTRACE_SEIZE, child, NULL, PTRACE_O_EXITKILL));
	return end_child(child);
}

static void *say_tid(void *to)
{
	pid_t tid = gettid();

	if (write(*(int *)to, &tid, sizeof(tid)) != sizeof(tid))
		exit(3);
	wait_forever();
	return NULL;
}

/* One thread of a process, and not its first. */
static int act_ptrace_thread(char **a)
{
	pthread_t thread;
	pid_t child, tid;
	int ends[2];

	(void)a;
	must("pipe", pipe(ends));
	child = must("fork", fork());
	if (!child) {
		pthread_create(&thread, NULL, say_tid, &ends[1]);
		wait_forever();
	}
	if (read(ends[0], &tid, sizeof(tid)) != sizeof(tid))
		return 3;
	said("child", child);
	said("thread", tid);
	result(trace(PTRACE_SEIZE, tid, NULL, 0));
	kill(child, SIGKILL);
	must("wait", waitpid(tid, NULL, __WALL));
	return end_child(child);
}

static pid_t start_tracee(void)
{
	pid_t child = start_child();

	must("attach", trace(PTRACE_ATTACH, child, NULL, 0));
	must("wait", waitpid(child, NULL, 0));
	return child;
}

/* A tracer that only looks. */
static int act_ptrace_quietly(char **a)
{
	pid_t child = start_tracee();
	long copy;

	(void)a;
	must("peek", trace(PTRACE_PEEKDATA, child, &word, (uintptr_t)&copy));
	must("continue", trace(PTRACE_CONT, child, NULL, 0));
	return end_child(child);
}

/* Not the newest of several tracees. */
static int act_ptrace_poke(char **a)
{
	pid_t first = start_tracee();
	pid_t second = must("fork", fork());

	(void)a;
	if (!second)
		wait_forever();
	must("seize", trace(PTRACE_SEIZE, second, NULL, 0));
	said("where", (long)&word);
	result(trace(PTRACE_POKEDATA, first, &word, 0x7766554433221100));
	end_child(second);
	return end_child(first);
}

static int act_ptrace_registers(char **a)
{
	struct user_regs_struct registers;
	struct iovec place = { &registers, sizeof(registers) };
	pid_t child = start_tracee();

	(void)a;
	must("get", trace(PTRACE_GETREGSET, child, (void *)NT_PRSTATUS, (uintptr_t)&place));
	said("place", (long)&place);
	result(trace(PTRACE_SETREGSET, child, (void *)NT_PRSTATUS, (uintptr_t)&place));
	return end_child(child);
}

static int act_ptrace_traceme(char **a)
{
	pid_t child = must("fork", fork());

	(void)a;
	if (!child) {
		said("pid", getpid());
		said("parent", getppid());
		result(trace(PTRACE_TRACEME, 0, NULL, 0));
		_exit(0);
	}
	must("wait", waitpid(child, NULL, 0));
	return 0;
}

static int act_ptrace_denied(char **a)
{
	pid_t child = start_child();

	(void)a;
	drop_rights();
	result(trace(PTRACE_ATTACH, child, NULL, 0));
	take_rights_back();
	return end_child(child);
}

static int act_ptrace_nobody(char **a)
{
	(void)a;
	result(trace(PTRACE_ATTACH, NOBODY_THERE, NULL, 0));
	return 0;
}

/* Looking is no event, unless it fails. */
static int act_ptrace_peek(char **a)
{
	pid_t child = start_child();

	(void)a;
	said("where", (long)&word);
	result(trace(PTRACE_PEEKDATA, child, &word, 0));
	return end_child(child);
}

typedef long call_on_process(pid_t pid);

/* The first process of a new pid namespace calls, and the second one is the target. */
static int call_inside(call_on_process *call)
{
	pid_t first, second;
	int ends[2];
	char go;

	must("pipe", pipe(ends));
	must("unshare", unshare(CLONE_NEWPID));
	first = must("fork", fork());
	if (!first) {
		if (read(ends[0], &go, 1) != 1)
			_exit(3);
		result(call(2));
		_exit(0);
	}
	second = must("fork", fork());
	if (!second)
		wait_forever();
	said("pid", first);
	said("child", second);
	if (write(ends[1], "", 1) != 1)
		return 3;
	/* The first ends when the second, which dies with it, has been waited for. */
	while (wait(NULL) > 0 || errno == EINTR)
		;
	return 0;
}

static long attach_to(pid_t pid)
{
	return trace(PTRACE_ATTACH, pid, NULL, 0);
}

static int act_ptrace_inside(char **a)
{
	(void)a;
	return call_inside(attach_to);
}

static long move(long number, pid_t pid, unsigned long flags)
{
	static uint64_t buffer[2];
	struct iovec here = { buffer, sizeof(buffer) };
	struct iovec there[] = { { (void *)&word, 4 }, { (void *)&word, 8 } };

	said("where", (long)&word);
	return syscall(number, pid, &here, 1, there, 2, flags);
}

static long read_from(pid_t pid)
{
	return move(SYS_process_vm_readv, pid, 0);
}

static long write_to(pid_t pid)
{
	return move(SYS_process_vm_writev, pid, 0);
}

static long call_number(const char *name)
{
	return strcmp(name, "write") ? SYS_process_vm_readv : SYS_process_vm_writev;
}

/* vm* read|write */
static int act_vm(char **a)
{
	pid_t child = start_child();

	result(move(call_number(a[0]), child, 0));
	return end_child(child);
}

/* What process_vm_writev(2) does, by a file. */
static int act_write_mem(char **a)
{
	pid_t child = start_child();
	char path[64];
	int file;

	(void)a;
	snprintf(path, sizeof(path), "/proc/%d/mem", child);
	file = must(path, open(path, O_RDWR));
	said("where", (long)&word);
	result(pwrite(file, (void *)&word, sizeof(word), (off_t)(uintptr_t)&word));
	close(file);
	return end_child(child);
}

static int act_vm_inside(char **a)
{
	return call_inside(strcmp(a[0], "write") ? read_from : write_to);
}

static int act_vm_denied(char **a)
{
	pid_t child = start_child();

	drop_rights();
	result(move(call_number(a[0]), child, 0));
	take_rights_back();
	return end_child(child);
}

static int act_vm_nobody(char **a)
{
	result(move(call_number(a[0]), NOBODY_THERE, 0));
	return 0;
}

static int act_vm_badflags(char **a)
{
	pid_t child = start_child();

	result(move(call_number(a[0]), child, 5));
	return end_child(child);
}

/* A list of pieces that leads nowhere. */
static int act_vm_unmapped(char **a)
{
	uint64_t buffer;
	struct iovec here = { &buffer, sizeof(buffer) };
	pid_t child = start_child();

	result(syscall(call_number(a[0]), child, &here, 1, 16, 1, 0));
	return end_child(child);
}

static int act_userfaultfd(char **a)
{
	(void)a;
	result(syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK));
	return 0;
}

static int act_userfaultfd_badflags(char **a)
{
	(void)a;
	result(syscall(SYS_userfaultfd, O_CLOEXEC | 0x40));
	return 0;
}

static const struct act acts[] = {
	{ "mmap_library", act_mmap_library },
	{ "mmap_shared", act_mmap_shared },
	{ "mmap_anonymous", act_mmap_anonymous },
	{ "mmap_memfd", act_mmap_memfd },
	{ "mmap_denied", act_mmap_denied },
	{ "mmap_badfd", act_mmap_badfd },
	{ "mmap_quietly", act_mmap_quietly },
	{ "mprotect_anonymous", act_mprotect_anonymous },
	{ "mprotect_heap", act_mprotect_heap },
	{ "mprotect_stack", act_mprotect_stack },
	{ "mprotect_file", act_mprotect_file },
	{ "mprotect_one_of_many", act_mprotect_one_of_many },
	{ "mprotect_quietly", act_mprotect_quietly },
	{ "mprotect_nothing", act_mprotect_nothing },
	{ "mprotect_denied", act_mprotect_denied },
	{ "pkey_mprotect", act_pkey_mprotect },
	{ "pkey_mprotect_badkey", act_pkey_mprotect_badkey },
	{ "memfd", act_memfd },
	{ "memfd_nameless", act_memfd_nameless },
	{ "memfd_badflags", act_memfd_badflags },
	{ "memfd_secret", act_memfd_secret },
	{ "memfd_secret_badflags", act_memfd_secret_badflags },
	{ "ptrace_attach", act_ptrace_attach },
	{ "ptrace_seize", act_ptrace_seize },
	{ "ptrace_thread", act_ptrace_thread },
	{ "ptrace_quietly", act_ptrace_quietly },
	{ "ptrace_poke", act_ptrace_poke },
	{ "ptrace_registers", act_ptrace_registers },
	{ "ptrace_traceme", act_ptrace_traceme },
	{ "ptrace_denied", act_ptrace_denied },
	{ "ptrace_nobody", act_ptrace_nobody },
	{ "ptrace_peek", act_ptrace_peek },
	{ "ptrace_inside", act_ptrace_inside },
	{ "vm", act_vm },
	{ "write_mem", act_write_mem },
	{ "vm_inside", act_vm_inside },
	{ "vm_denied", act_vm_denied },
	{ "vm_nobody", act_vm_nobody },
	{ "vm_badflags", act_vm_badflags },
	{ "vm_unmapped", act_vm_unmapped },
	{ "userfaultfd", act_userfaultfd },
	{ "userfaultfd_badflags", act_userfaultfd_badflags },
	{ NULL, NULL },
};

int main(int argc, char **argv)
{
	return act_main(argc, argv, acts);
}
