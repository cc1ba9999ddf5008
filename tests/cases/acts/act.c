// SPDX-License-Identifier: Apache-2.0
/* Acts on processes, opens and sockets. */
#include "act.h"
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/personality.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static const struct act acts[];

static int perform(char **a)
{
	for (const struct act *act = acts; act->name; act++)
		if (!strcmp(act->name, a[0]))
			return act->act(a + 1);
	return 2;
}

/* with_file NAME ACT...: the file is there before the act. */
static int act_with_file(char **a)
{
	close(must(a[0], open(a[0], O_CREAT | O_WRONLY, 0640)));
	return perform(a + 1);
}

/* waited ACT...: by a child, which is the process that counts; says what wait4(2) says of it. */
static int act_waited(char **a)
{
	struct rusage usage;
	int status;
	pid_t child = must("fork", fork());

	if (!child)
		_exit(perform(a));
	must("wait4", wait4(child, &status, 0, &usage));
	said("pid", child);
	said("core", WIFSIGNALED(status) && WCOREDUMP(status));
	said("max_rss_bytes", usage.ru_maxrss * 1024);
	return 0;
}

/*
 * with_descriptors NUMBER ACT...: the next descriptor has that number. A child does the act, whose
 * table of descriptors is as small as can be.
 */
static int act_with_descriptors(char **a)
{
	must("close_range", syscall(SYS_close_range, 3, ~0U, 0));
	while (must("dup", dup(0)) < atoi(a[0]) - 1)
		;
	return act_waited(a + 1);
}

/* What the event has to say about an open file; nothing when it is none. */
static void say_file(int fd)
{
	struct stat file;
	char device[32];

	if (fd < 0 || fstat(fd, &file))
		return;
	said("inode", file.st_ino);
	snprintf(device, sizeof(device), "%u:%u", major(file.st_dev), minor(file.st_dev));
	said_text("device", device);
}

static int opened(long fd)
{
	result(fd);
	say_file(fd);
	return 0;
}

static int act_open(char **a)
{
	return opened(syscall(SYS_open, a[0], (int)strtol(a[1], NULL, 0), 0640));
}

static int act_openat(char **a)
{
	int dir = strcmp(a[0], "-") ? open(a[0], O_PATH | O_DIRECTORY) : AT_FDCWD;

	return opened(syscall(SYS_openat, dir, a[1], (int)strtol(a[2], NULL, 0), 0640));
}

static int act_openat2(char **a)
{
	struct open_how how = { .flags = strtoul(a[1], NULL, 0) };

	return opened(syscall(SYS_openat2, AT_FDCWD, a[0], &how, sizeof(how)));
}

static int act_creat(char **a)
{
	return opened(syscall(SYS_creat, a[0], 0600));
}

static int act_open_by_handle(char **a)
{
	struct {
		struct file_handle head;
		char bytes[128];
	} handle = { .head.handle_bytes = 128 };
	int mount_id;

	if (name_to_handle_at(AT_FDCWD, a[0], &handle.head, &mount_id, 0))
		return 3;
	return opened(syscall(SYS_open_by_handle_at, open(a[1], O_RDONLY), &handle.head, O_RDONLY));
}

/* A handle without bytes. */
static int act_open_by_no_handle(char **a)
{
	struct file_handle handle = {};

	return opened(syscall(SYS_open_by_handle_at, open(a[0], O_RDONLY), &handle, O_RDONLY));
}

/* A pointer that leads nowhere. */
static int act_open_unmapped(char **a)
{
	(void)a;
	result(syscall(SYS_openat, AT_FDCWD, (char *)16, O_RDONLY, 0));
	return 0;
}

/* What with_server has started; "server" stands for it. */
static int server_port;

static int port_of(const char *text)
{
	return strcmp(text, "server") ? atoi(text) : server_port;
}

static socklen_t address_of(char **a, struct sockaddr_storage *to)
{
	struct sockaddr_in *v4 = (void *)to;
	struct sockaddr_in6 *v6 = (void *)to;
	struct sockaddr_un *un = (void *)to;

	memset(to, 0, sizeof(*to));
	if (!strcmp(a[0], "unix")) {
		un->sun_family = AF_UNIX;
		strcpy(un->sun_path, a[1]);
		/* @ stands for the NUL of an abstract name. */
		if (a[1][0] == '@') {
			un->sun_path[0] = 0;
			return offsetof(struct sockaddr_un, sun_path) + strlen(a[1]);
		}
		/* As many programs do: the whole struct, with whatever lies behind the name. */
		strcpy(un->sun_path + strlen(a[1]) + 1, "rubbish");
		return sizeof(*un);
	}
	if (!strcmp(a[0], "inet")) {
		v4->sin_family = AF_INET;
		v4->sin_port = htons(port_of(a[2]));
		inet_pton(AF_INET, a[1], &v4->sin_addr);
		return sizeof(*v4);
	}
	v6->sin6_family = AF_INET6;
	v6->sin6_port = htons(port_of(a[2]));
	inet_pton(AF_INET6, a[1], &v6->sin6_addr);
	return sizeof(*v6);
}

/* connect|sendto|bind TYPE FAMILY ADDRESS PORT */
static int socket_for(char **a, struct sockaddr_storage *to, socklen_t *length)
{
	int type = !strcmp(a[0], "dgram")    ? SOCK_DGRAM :
		   !strcmp(a[0], "nonblock") ? SOCK_STREAM | SOCK_NONBLOCK :
					       SOCK_STREAM;
	int fd;

	*length = address_of(a + 1, to);
	fd = socket(to->ss_family, type, 0);
	said("fd", fd);
	return fd;
}

static void say_local_port(int fd)
{
	struct sockaddr_in6 local = {};
	socklen_t length = sizeof(local);

	getsockname(fd, (void *)&local, &length);
	/* The port lies in the same place for IPv4 and IPv6. */
	said("local_port", ntohs(local.sin6_port));
}

/* with_server FAMILY ADDRESS ACT... */
static int act_with_server(char **a)
{
	struct sockaddr_storage address;
	char *target[] = { a[0], a[1], "0" };
	socklen_t length = address_of(target, &address);
	int fd = must("socket", socket(address.ss_family, SOCK_STREAM, 0));

	must("bind", bind(fd, (void *)&address, length));
	must("listen", listen(fd, 1));
	if (address.ss_family != AF_UNIX) {
		must("getsockname", getsockname(fd, (void *)&address, &length));
		/* The port lies in the same place for IPv4 and IPv6. */
		server_port = ntohs(((struct sockaddr_in *)&address)->sin_port);
		said("port", server_port);
	}
	return perform(a + 2);
}

static int act_connect(char **a)
{
	struct sockaddr_storage address;
	socklen_t length;
	int fd = socket_for(a, &address, &length);

	result(syscall(SYS_connect, fd, &address, length));
	say_local_port(fd);
	return 0;
}

static int act_connect_badfd(char **a)
{
	struct sockaddr_storage address;
	socklen_t length = address_of(a, &address);

	result(syscall(SYS_connect, 77, &address, length));
	return 0;
}

static int act_sendto(char **a)
{
	struct sockaddr_storage address;
	socklen_t length;
	int fd = socket_for(a, &address, &length);

	result(syscall(SYS_sendto, fd, "x", 1, 0, &address, length));
	say_local_port(fd);
	return 0;
}

static int act_bind(char **a)
{
	struct sockaddr_storage address;
	socklen_t length;
	int fd = socket_for(a, &address, &length);

	result(syscall(SYS_bind, fd, &address, length));
	say_local_port(fd);
	return 0;
}

static int act_listen(char **a)
{
	struct sockaddr_storage address;
	socklen_t length;
	int fd = socket_for(a, &address, &length);

	bind(fd, (void *)&address, length);
	result(syscall(SYS_listen, fd, 7));
	say_local_port(fd);
	return 0;
}

/* accept|accept4 TYPE FAMILY ADDRESS PORT: both ends in one process. */
static int accept_with(char **a, int number)
{
	struct sockaddr_storage address;
	socklen_t length;
	int fd = socket_for(a, &address, &length);
	int client = socket(address.ss_family, SOCK_STREAM, 0);

	bind(fd, (void *)&address, length);
	listen(fd, 1);
	if (address.ss_family == AF_UNIX) {
		connect(client, (void *)&address, length);
	} else {
		getsockname(fd, (void *)&address, &length);
		connect(client, (void *)&address, length);
		say_local_port(fd);
	}
	result(number == 4 ? syscall(SYS_accept4, fd, NULL, NULL, SOCK_CLOEXEC) :
			     syscall(SYS_accept, fd, NULL, NULL));
	if (address.ss_family != AF_UNIX) {
		struct sockaddr_in6 local = {};

		length = sizeof(local);
		getsockname(client, (void *)&local, &length);
		said("client_port", ntohs(local.sin6_port));
	}
	return 0;
}

static int act_accept(char **a)
{
	return accept_with(a, 0);
}

static int act_accept4(char **a)
{
	return accept_with(a, 4);
}

/* A listener that nobody calls, then one that is no socket at all. */
static int act_accept_nobody(char **a)
{
	struct sockaddr_storage address;
	socklen_t length;
	int fd = socket_for(a, &address, &length);

	bind(fd, (void *)&address, length);
	listen(fd, 1);
	result(syscall(SYS_accept, fd, NULL, NULL));
	said("second", syscall(SYS_accept, 0, NULL, NULL) < 0 ? -errno : 0);
	return 0;
}

/* "own" stands for this program, which is the only one that is everywhere. */
static char *program_of(char *name)
{
	static char own[PATH_MAX];

	if (strcmp(name, "own"))
		return name;
	must("readlink", readlink("/proc/self/exe", own, sizeof(own) - 1));
	said_text("program", own);
	return own;
}

static int act_exec(char **a)
{
	char *program = program_of(a[0]);

	say_file(open(program, O_PATH | O_CLOEXEC));
	result(execv(program, a + 1));
	return 1;
}

/* What the loader looks at, and what nobody needs to know. */
static int act_exec_environment(char **a)
{
	char *environment[] = { "SECRET=do not tell", "LD_LIBRARY_PATH=/opt/lib:/x", NULL };

	result(execve(program_of(a[0]), a + 1, environment));
	return 1;
}

/* More arguments than an event holds. */
static int act_exec_long(char **a)
{
	static char argument[5000];
	char *arguments[] = { "act", "exit", "0", argument, NULL };

	memset(argument, 'x', sizeof(argument) - 1);
	result(execv(program_of(a[0]), arguments));
	return 1;
}

/* A script whose interpreter is this program: it is called with "exit ./script ...". */
static int act_exec_script(char **a)
{
	FILE *script = fopen("script", "w");

	fprintf(script, "#!%s exit\n", program_of("own"));
	fclose(script);
	must("chmod", chmod("script", 0755));
	result(execv("./script", a));
	return 1;
}

static int act_execveat(char **a)
{
	extern char **environ;
	int fd = open(program_of(a[0]), O_PATH);

	said("fd", fd);
	result(syscall(SYS_execveat, fd, "", a + 1, environ, AT_EMPTY_PATH));
	return 1;
}

static void copy(const char *name, int to)
{
	int from = must(name, open(name, O_RDONLY));
	char buffer[65536];
	ssize_t n;

	while ((n = read(from, buffer, sizeof(buffer))) > 0)
		must("write", write(to, buffer, n));
	close(from);
}

/* A copy of this program that is open, but not for writing. */
static int open_copy(const char *name, int mode)
{
	int fd = must(name, open(name, O_CREAT | O_WRONLY, 0700));

	copy(program_of("own"), fd);
	must("fchmod", fchmod(fd, mode));
	close(fd);
	return must(name, open(name, O_RDONLY | O_CLOEXEC));
}

/* exec_deleted ARGUMENT... */
static int act_exec_deleted(char **a)
{
	extern char **environ;
	int fd = open_copy("copy", 0755);

	must("unlink", unlink("copy"));
	result(syscall(SYS_execveat, fd, "", a, environ, AT_EMPTY_PATH));
	return 1;
}

/* exec_elevated UID GID ARGUMENT...: a set-uid program, run by somebody else. */
static int act_exec_elevated(char **a)
{
	extern char **environ;
	int fd = open_copy("elevated", 04755);
	int uid = atoi(a[0]);
	int gid = atoi(a[1]);

	must("setresgid", setresgid(gid, gid, gid));
	must("setresuid", setresuid(uid, uid, uid));
	/* By descriptor, since this user may not enter the folder. */
	result(syscall(SYS_execveat, fd, "", a + 2, environ, AT_EMPTY_PATH));
	return 1;
}

/* Runs a copy of a file that has no name. */
static int act_exec_memfd(char **a)
{
	extern char **environ;
	int fd = memfd_create("nameless", MFD_CLOEXEC);

	copy(program_of(a[0]), fd);
	result(syscall(SYS_execveat, fd, "", a + 1, environ, AT_EMPTY_PATH));
	return 1;
}

/* Runs it at addresses that are not random. */
static int act_exec_fixed(char **a)
{
	must("personality", personality(ADDR_NO_RANDOMIZE));
	result(execv(program_of(a[0]), a + 1));
	return 1;
}

static char **thread_arguments;

static void *exec_in_thread(void *unused)
{
	(void)unused;
	said("thread", gettid());
	execv(thread_arguments[0], thread_arguments + 1);
	return NULL;
}

static int act_exec_thread(char **a)
{
	pthread_t thread;

	a[0] = program_of(a[0]);
	thread_arguments = a;
	pthread_create(&thread, NULL, exec_in_thread, NULL);
	pthread_join(thread, NULL);
	return 1;
}

static int act_exec_setuid(char **a)
{
	int uid = atoi(a[0]);
	int gid = atoi(a[1]);

	if (setresgid(gid, gid, gid) || setresuid(uid, uid, uid))
		return 3;
	result(execv(a[2], a + 3));
	return 1;
}

/* Standard input becomes a TCP socket, as a reverse shell does. */
static int act_exec_socket(char **a)
{
	struct sockaddr_storage address;
	char *target[] = { "inet", a[0], a[1] };
	socklen_t length = address_of(target, &address);
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	if (connect(fd, (void *)&address, length))
		return 3;
	dup2(fd, 0);
	close(2);
	result(execv(program_of(a[2]), a + 3));
	return 1;
}

static int act_fork(char **a)
{
	pid_t child;

	(void)a;
	child = syscall(SYS_fork);
	if (!child)
		_exit(0);
	if (child < 0)
		return result(child), 0;
	said("child", child);
	waitpid(child, NULL, 0);
	return 0;
}

static int act_vfork(char **a)
{
	pid_t child;

	(void)a;
	child = vfork();
	if (!child)
		_exit(0);
	said("child", child);
	waitpid(child, NULL, 0);
	return 0;
}

static int act_clone(char **a)
{
	pid_t child = syscall(SYS_clone, strtoul(a[0], NULL, 0) | SIGCHLD, NULL, NULL, NULL, NULL);

	if (!child)
		_exit(0);
	said("child", child < 0 ? -errno : child);
	waitpid(child, NULL, 0);
	return 0;
}

static int act_clone3(char **a)
{
	struct {
		uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls;
	} how = { .flags = strtoul(a[0], NULL, 0), .exit_signal = SIGCHLD };
	pid_t child = syscall(SYS_clone3, &how, sizeof(how));

	if (!child)
		_exit(0);
	said("child", child < 0 ? -errno : child);
	waitpid(child, NULL, 0);
	return 0;
}

static void *sleep_a_little(void *unused)
{
	(void)unused;
	usleep(20000);
	return NULL;
}

/* Threads are no processes: one exit, however they end. */
static int act_threads(char **a)
{
	pthread_t threads[8];

	for (int i = 0; i < 8; i++)
		pthread_create(&threads[i], NULL, sleep_a_little, NULL);
	if (atoi(a[0])) {
		/* The first thread leaves before the others. */
		pthread_exit(NULL);
	}
	for (int i = 0; i < 8; i++)
		pthread_join(threads[i], NULL);
	return 9;
}

static int act_exit(char **a)
{
	return atoi(a[0]);
}

/* The end of the only thread, and not of the process. */
static int act_leave(char **a)
{
	syscall(SYS_exit, atoi(a[0]));
	return 1;
}

static int act_signal(char **a)
{
	struct rlimit core = { RLIM_INFINITY, RLIM_INFINITY };

	setrlimit(RLIMIT_CORE, &core);
	raise(atoi(a[0]));
	return 0;
}

static int act_die(char **a)
{
	/* 32 MiB of memory, and some CPU time. */
	volatile char *memory = malloc(32 << 20);

	for (int round = 0; round < 200; round++)
		for (int i = 0; i < 32 << 20; i += 64)
			memory[i] = round;
	raise(atoi(a[0]));
	return 0;
}

static const struct act acts[] = {
	{ "with_file", act_with_file },
	{ "with_server", act_with_server },
	{ "waited", act_waited },
	{ "with_descriptors", act_with_descriptors },
	{ "open", act_open },
	{ "openat", act_openat },
	{ "openat2", act_openat2 },
	{ "creat", act_creat },
	{ "open_by_handle_at", act_open_by_handle },
	{ "open_by_no_handle", act_open_by_no_handle },
	{ "open_unmapped", act_open_unmapped },
	{ "connect", act_connect },
	{ "connect_badfd", act_connect_badfd },
	{ "sendto", act_sendto },
	{ "bind", act_bind },
	{ "listen", act_listen },
	{ "accept", act_accept },
	{ "accept4", act_accept4 },
	{ "accept_nobody", act_accept_nobody },
	{ "exec", act_exec },
	{ "exec_environment", act_exec_environment },
	{ "exec_long", act_exec_long },
	{ "exec_script", act_exec_script },
	{ "exec_deleted", act_exec_deleted },
	{ "exec_elevated", act_exec_elevated },
	{ "execveat", act_execveat },
	{ "exec_memfd", act_exec_memfd },
	{ "exec_fixed", act_exec_fixed },
	{ "exec_thread", act_exec_thread },
	{ "exec_setuid", act_exec_setuid },
	{ "exec_socket", act_exec_socket },
	{ "fork", act_fork },
	{ "vfork", act_vfork },
	{ "clone", act_clone },
	{ "clone3", act_clone3 },
	{ "threads", act_threads },
	{ "exit", act_exit },
	{ "leave", act_leave },
	{ "signal", act_signal },
	{ "die", act_die },
	{ NULL, NULL },
};

int main(int argc, char **argv)
{
	return act_main(argc, argv, acts);
}
