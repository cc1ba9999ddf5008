// SPDX-License-Identifier: Apache-2.0
/* Published ways to hide from agents like this one. */
#include "act.h"
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>

#define ROUNDS 200

static void make(const char *name)
{
	close(must(name, open(name, O_CREAT | O_WRONLY, 0644)));
}

static void said_inode(const char *name, const char *path)
{
	struct stat facts;

	must(path, stat(path, &facts));
	said(name, facts.st_ino);
}

static volatile int racing = 1;

/* Turns one byte back and forth while the kernel reads it. */
static void *flip(void *at)
{
	volatile char *byte = at;

	while (racing)
		*byte = *byte == '1' ? '2' : '1';
	return NULL;
}

/* E1: the name changes after the call has begun. */
static int act_race_open(char **a)
{
	static char name[] = "file1";
	pthread_t thread;

	(void)a;
	make("file1");
	make("file2");
	said_inode("inode1", "file1");
	said_inode("inode2", "file2");
	pthread_create(&thread, NULL, flip, &name[4]);
	for (int round = 0; round < ROUNDS; round++)
		close(must("open", syscall(SYS_openat, AT_FDCWD, name, O_RDONLY | O_NOFOLLOW)));
	racing = 0;
	pthread_join(thread, NULL);
	return 0;
}

/* E1: the address changes after the call has begun; says whom it really reached. */
static int act_race_connect(char **a)
{
	static struct sockaddr_in address = { .sin_family = AF_INET };
	struct sockaddr_in peer;
	socklen_t length = sizeof(peer);
	int listener = must("socket", socket(AF_INET, SOCK_STREAM, 0));
	char reached[ROUNDS + 1] = "";
	pthread_t thread;

	(void)a;
	must("bind", bind(listener, (struct sockaddr *)&address, sizeof(address)));
	must("listen", listen(listener, ROUNDS));
	getsockname(listener, (struct sockaddr *)&address, &length);
	address.sin_addr.s_addr = htonl(0x7f000031);
	/* 127.0.0.49 and 127.0.0.50, whose last bytes are '1' and '2'. */
	pthread_create(&thread, NULL, flip, (char *)&address.sin_addr + 3);
	for (int round = 0; round < ROUNDS; round++) {
		int client = must("socket", socket(AF_INET, SOCK_STREAM, 0));

		must("connect", connect(client, (struct sockaddr *)&address, sizeof(address)));
		length = sizeof(peer);
		getpeername(client, (struct sockaddr *)&peer, &length);
		reached[round] = ((char *)&peer.sin_addr)[3];
		close(client);
	}
	racing = 0;
	pthread_join(thread, NULL);
	/* Not a number. */
	printf("reached =%s\n", reached);
	return 0;
}

/* E2: the way to the file leads through a link and back. */
static int act_confused(char **a)
{
	(void)a;
	must("mkdir", mkdir("secret", 0755));
	must("mkdir", mkdir("secret/inner", 0755));
	must("symlink", symlink("secret/inner", "x"));
	make("secret/shadow");
	result(syscall(SYS_openat, AT_FDCWD, "x/../shadow", O_RDONLY));
	return 0;
}

/* E3: another name of the same file. */
static int act_hard_link(char **a)
{
	(void)a;
	make("shadow");
	said_inode("inode", "shadow");
	must("link", link("shadow", "harmless"));
	result(syscall(SYS_openat, AT_FDCWD, "harmless", O_RDONLY));
	return 0;
}

/* E4: the folder is a link to the one that is watched. */
static int act_linked_folder(char **a)
{
	(void)a;
	must("mkdir", mkdir("etc", 0755));
	must("symlink", symlink("etc", "root-link"));
	result(syscall(SYS_openat, AT_FDCWD, "root-link/profile", O_WRONLY | O_CREAT, 0644));
	return 0;
}

/* E7: the program calls itself by another name. */
static int act_other_name(char **a)
{
	char *arguments[] = { "sudoedit", "-s", NULL };

	must("exec", execv(a[0], arguments));
	return 1;
}

/* E9: a shell whose input and output are a pipe with a name, so nothing was duplicated. */
static int act_back_pipe(char **a)
{
	char *arguments[] = { a[0], NULL };
	int pipe;

	must("mkfifo", mkfifo("back", 0600));
	pipe = must("open", open("back", O_RDWR));
	close(0);
	must("open", open("back", O_RDONLY));
	close(pipe);
	must("exec", execv(a[0], arguments));
	return 1;
}

/* E13: a program in memory, run by the name of its descriptor. */
static int act_memory_by_name(char **a)
{
	int from = must("open", open("/proc/self/exe", O_RDONLY));
	int to = must("memfd", memfd_create("harmless", 0));
	char *arguments[] = { "harmless", "nothing", NULL };
	char buffer[65536];
	char name[64];
	ssize_t length;

	(void)a;
	while ((length = read(from, buffer, sizeof(buffer))) > 0)
		must("write", write(to, buffer, length));
	close(from);
	snprintf(name, sizeof(name), "/proc/self/fd/%d", to);
	must("exec", execv(name, arguments));
	return 1;
}

#ifdef __aarch64__
#define LOADER "/lib/ld-linux-aarch64.so.1"
#else
#define LOADER "/lib64/ld-linux-x86-64.so.2"
#endif

/* E14: the loader runs the program, so the kernel sees only the loader. */
static int act_loader(char **a)
{
	char self[PATH_MAX] = "";
	char *arguments[] = { LOADER, self, "nothing", NULL };

	(void)a;
	must("readlink", readlink("/proc/self/exe", self, sizeof(self) - 1));
	said_text("self", self);
	said_text("loader", LOADER);
	must("exec", execv(LOADER, arguments));
	return 1;
}

/* E12: a system call of the 32-bit interface. */
static int act_call_of_32_bits(char **a)
{
	long done = -ENOSYS;

	(void)a;
	make("file");
#ifdef __x86_64__
	char *name = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);

	strcpy(name, "file");
	/* open is number 5 there. */
	__asm__ volatile("int $0x80"
			 : "=a"(done)
			 : "a"(5L), "b"(name), "c"((long)O_RDONLY), "d"(0L)
			 : "memory", "r8", "r9", "r10", "r11");
#endif
	said("result", done);
	return 0;
}

/* E12: the ids change by the 32-bit interface. */
static int act_ids_changed_by_32_bits(char **a)
{
	long done = -ENOSYS;

	(void)a;
#ifdef __x86_64__
	/* setresuid32 is number 208 there. */
	__asm__ volatile("int $0x80"
			 : "=a"(done)
			 : "a"(208L), "b"(1001L), "c"(1002L), "d"(-1L)
			 : "memory", "r8", "r9", "r10", "r11");
#endif
	said("result", done);
	return 0;
}

/* E23: a file system of its own, with another root. */
static int act_other_root(char **a)
{
	char name[64] = "";

	(void)a;
	must("mkdir", mkdir("root", 0755));
	must("unshare", unshare(CLONE_NEWNS));
	must("private", mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL));
	must("mount", mount("none", "root", "tmpfs", 0, NULL));
	must("readlink", readlink("/proc/self/ns/mnt", name, sizeof(name) - 1));
	said("namespace", atol(strchr(name, '[') + 1));
	must("chroot", chroot("root"));
	must("chdir", chdir("/"));
	make("/file");
	result(syscall(SYS_openat, AT_FDCWD, "/file", O_RDONLY));
	return 0;
}

/* E23: the folder behind the descriptor has moved. */
static int act_moved_folder(char **a)
{
	int folder;

	(void)a;
	must("mkdir", mkdir("before", 0755));
	make("before/file");
	folder = must("open", open("before", O_PATH | O_DIRECTORY));
	must("rename", rename("before", "after"));
	result(syscall(SYS_openat, folder, "file", O_RDONLY));
	return 0;
}

/* What the kernel starts by itself tells us its pid through this socket. */
#define TELL "nodeagent-evasion"

static struct sockaddr_un tell_address(socklen_t *length)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	/* An abstract name: whoever the kernel starts may have another root. */
	memcpy(&address.sun_path[1], TELL, sizeof(TELL));
	*length = offsetof(struct sockaddr_un, sun_path) + sizeof(TELL);
	return address;
}

static int tell(void)
{
	socklen_t length;
	struct sockaddr_un address = tell_address(&length);
	int to = must("socket", socket(AF_UNIX, SOCK_DGRAM, 0));
	pid_t pid = getpid();

	must("sendto", sendto(to, &pid, sizeof(pid), 0, (struct sockaddr *)&address, length));
	return 0;
}

static int listen_for_pid(void)
{
	struct timeval patience = { .tv_sec = 10 };
	socklen_t length;
	struct sockaddr_un address = tell_address(&length);
	int from = must("socket", socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));

	must("bind", bind(from, (struct sockaddr *)&address, length));
	must("timeout", setsockopt(from, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)));
	return from;
}

static void said_pid_from(int from)
{
	pid_t pid;

	must("no process of the kernel's came", recv(from, &pid, sizeof(pid), 0));
	said("pid", pid);
}

static void own_path(char *path)
{
	ssize_t length = must("readlink", readlink("/proc/self/exe", path, PATH_MAX - 1));

	path[length] = 0;
}

static void write_text(const char *name, const char *text)
{
	int file = must(name, open(name, O_WRONLY));

	must(name, write(file, text, strlen(text)));
	close(file);
}

/* E14: the kernel runs a program when another one crashes. */
static int act_core_pattern(char **a)
{
	static const char name[] = "/proc/sys/kernel/core_pattern";
	char before[256] = "";
	char pattern[PATH_MAX + 16] = "|";
	int from = listen_for_pid();
	int file = open(name, O_RDWR);
	pid_t child;

	(void)a;
	if (file < 0)
		return result(-1), 0;
	must("read", read(file, before, sizeof(before) - 1));
	close(file);
	own_path(pattern + 1);
	/* The kernel takes at most 127 bytes. */
	if (strlen(pattern) > 120) {
		must("symlink", symlink(pattern + 1, "/tmp/nodeagent-core"));
		strcpy(pattern, "|/tmp/nodeagent-core");
	}
	strcat(pattern, " tell");
	write_text(name, pattern);
	child = must("fork", fork());
	if (!child) {
		struct rlimit limit = { RLIM_INFINITY, RLIM_INFINITY };

		setrlimit(RLIMIT_CORE, &limit);
		abort();
	}
	waitpid(child, NULL, 0);
	write_text(name, before);
	said_pid_from(from);
	unlink("/tmp/nodeagent-core");
	return 0;
}

static int is_in_hierarchy(const char *name)
{
	char line[PATH_MAX];
	int found = 0;
	FILE *file = fopen("/proc/self/cgroup", "r");

	while (file && fgets(line, sizeof(line), file))
		found |= !!strstr(line, name);
	if (file)
		fclose(file);
	return found;
}

/* E14: the kernel runs a program when the last one leaves a cgroup of version 1. */
static int act_release_agent(char **a)
{
	char path[PATH_MAX];
	int from = listen_for_pid();
	pid_t child;

	(void)a;
	must("unshare", unshare(CLONE_NEWNS));
	must("private", mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL));
	must("mkdir", mkdir("group", 0755));
	if (mount("none", "group", "cgroup", 0, "none,name=nodeagent-evasion")) {
		/* This kernel has no version 1. */
		errno = ENOSYS;
		return result(-1), 0;
	}
	own_path(path);
	write_text("group/release_agent", path);
	must("mkdir", mkdir("group/tell", 0755));
	write_text("group/tell/notify_on_release", "1");
	child = must("fork", fork());
	if (!child) {
		write_text("group/tell/cgroup.procs", "0");
		_exit(0);
	}
	waitpid(child, NULL, 0);
	said_pid_from(from);
	rmdir("group/tell");
	umount("group");
	/* A hierarchy whose last group is not quite gone when it is unmounted would stay. */
	for (int turn = 0; turn < 100 && is_in_hierarchy("name=nodeagent-evasion"); turn++) {
		usleep(20000);
		if (!mount("none", "group", "cgroup", 0, "none,name=nodeagent-evasion"))
			umount("group");
	}
	rmdir("group");
	return 0;
}

/* E14: the kernel takes another program for files of a kind. */
static int act_binfmt_misc(char **a)
{
	char rule[PATH_MAX + 64] = ":nodeagent-evasion:E::nodeagent-evasion::";
	char path[PATH_MAX];
	char *arguments[] = { "harmless", NULL };
	pid_t child;
	int code;

	(void)a;
	must("unshare", unshare(CLONE_NEWNS));
	must("private", mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL));
	must("mkdir", mkdir("binfmt", 0755));
	if (mount("none", "binfmt", "binfmt_misc", 0, NULL)) {
		/* A module that is not there. */
		errno = ENOSYS;
		return result(-1), 0;
	}
	own_path(path);
	strcat(rule, path);
	strcat(rule, ":");
	write_text("binfmt/register", rule);
	make("data.nodeagent-evasion");
	must("chmod", chmod("data.nodeagent-evasion", 0755));
	child = must("fork", fork());
	if (!child) {
		execv("data.nodeagent-evasion", arguments);
		_exit(9);
	}
	waitpid(child, &code, 0);
	said("pid", child);
	write_text("binfmt/nodeagent-evasion", "-1");
	umount("binfmt");
	return 0;
}

/* E20: PID ADDRESS: writes into another process what is there already. */
static int act_rewrite(char **a)
{
	char bytes[8] = "";
	struct iovec here = { bytes, sizeof(bytes) };
	struct iovec there = { (void *)strtoul(a[1], NULL, 0), sizeof(bytes) };

	process_vm_readv(atoi(a[0]), &here, 1, &there, 1, 0);
	result(process_vm_writev(atoi(a[0]), &here, 1, &there, 1, 0));
	return 0;
}

/* E20: the same through /proc. */
static int act_rewrite_by_file(char **a)
{
	off_t address = strtoul(a[1], NULL, 0);
	char bytes[8] = "";
	char name[64];
	int file;

	snprintf(name, sizeof(name), "/proc/%s/mem", a[0]);
	file = must(name, open(name, O_RDWR));
	pread(file, bytes, sizeof(bytes), address);
	result(pwrite(file, bytes, sizeof(bytes), address));
	return 0;
}

/* A text in memory that nobody has touched yet: the next one who reads it must wait for it. */
static char *absent(const char *text)
{
	int file = must("open", open("text", O_CREAT | O_RDWR, 0644));
	char *found;

	must("write", write(file, text, strlen(text) + 1));
	found = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, file, 0);
	must("mmap", found == MAP_FAILED ? -1 : 0);
	close(file);
	return found;
}

/* E24: the name of a file is not there when the call begins. */
static int act_absent_name(char **a)
{
	(void)a;
	result(syscall(SYS_openat, AT_FDCWD, absent("nowhere"), O_RDONLY));
	return 0;
}

/* E24: nor is an argument of a program. */
static int act_absent_argument(char **a)
{
	char *arguments[] = { absent("nowhere"), "nothing", NULL };

	(void)a;
	must("exec", execv("/proc/self/exe", arguments));
	return 1;
}

static int act_nothing(char **a)
{
	(void)a;
	return 0;
}

static const struct act acts[] = {
	{ "race_open", act_race_open },
	{ "race_connect", act_race_connect },
	{ "confused", act_confused },
	{ "hard_link", act_hard_link },
	{ "linked_folder", act_linked_folder },
	{ "other_name", act_other_name },
	{ "back_pipe", act_back_pipe },
	{ "memory_by_name", act_memory_by_name },
	{ "loader", act_loader },
	{ "call_of_32_bits", act_call_of_32_bits },
	{ "ids_changed_by_32_bits", act_ids_changed_by_32_bits },
	{ "other_root", act_other_root },
	{ "moved_folder", act_moved_folder },
	{ "core_pattern", act_core_pattern },
	{ "release_agent", act_release_agent },
	{ "binfmt_misc", act_binfmt_misc },
	{ "absent_name", act_absent_name },
	{ "absent_argument", act_absent_argument },
	{ "rewrite", act_rewrite },
	{ "rewrite_by_file", act_rewrite_by_file },
	{ "nothing", act_nothing },
	{ NULL, NULL },
};

int main(int argc, char **argv)
{
	char program[PATH_MAX] = "";

	/* Run under another name, it does nothing. */
	if (argc > 1 && !strcmp(argv[1], "-s"))
		return 0;
	/* The agent of a cgroup is told which one it is. */
	if (argc > 1 && (!strcmp(argv[1], "tell") || !strcmp(argv[1], "/tell")))
		return tell();
	if (argc > 1 && readlink("/proc/self/exe", program, sizeof(program) - 1) > 0)
		said_text("program", program);
	return act_main(argc, argv, acts);
}
