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
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static int act_open(char **a)
{
	result(syscall(SYS_open, a[0], (int)strtol(a[1], NULL, 0), 0640));
	return 0;
}

static int act_openat(char **a)
{
	int dir = strcmp(a[0], "-") ? open(a[0], O_PATH | O_DIRECTORY) : AT_FDCWD;

	result(syscall(SYS_openat, dir, a[1], (int)strtol(a[2], NULL, 0), 0640));
	return 0;
}

static int act_openat2(char **a)
{
	struct open_how how = { .flags = strtoul(a[1], NULL, 0) };

	result(syscall(SYS_openat2, AT_FDCWD, a[0], &how, sizeof(how)));
	return 0;
}

static int act_creat(char **a)
{
	result(syscall(SYS_creat, a[0], 0600));
	return 0;
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
	result(syscall(SYS_open_by_handle_at, open(a[1], O_RDONLY), &handle.head, O_RDONLY));
	return 0;
}

/* A pointer that leads nowhere. */
static int act_open_unmapped(char **a)
{
	(void)a;
	result(syscall(SYS_openat, AT_FDCWD, (char *)16, O_RDONLY, 0));
	return 0;
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
		v4->sin_port = htons(atoi(a[2]));
		inet_pton(AF_INET, a[1], &v4->sin_addr);
		return sizeof(*v4);
	}
	v6->sin6_family = AF_INET6;
	v6->sin6_port = htons(atoi(a[2]));
	inet_pton(AF_INET6, a[1], &v6->sin6_addr);
	return sizeof(*v6);
}

/* connect|bind TYPE FAMILY ADDRESS PORT */
static int socket_for(char **a, struct sockaddr_storage *to, socklen_t *length)
{
	int type = !strcmp(a[0], "dgram") ? SOCK_DGRAM :
		   !strcmp(a[0], "nonblock") ? SOCK_STREAM | SOCK_NONBLOCK : SOCK_STREAM;
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

static int act_exec(char **a)
{
	result(execv(a[0], a + 1));
	return 1;
}

static int act_execveat(char **a)
{
	extern char **environ;
	int fd = open(a[0], O_PATH);

	result(syscall(SYS_execveat, fd, "", a + 1, environ, AT_EMPTY_PATH));
	return 1;
}

/* Runs a copy of a file that has no name. */
static int act_exec_memfd(char **a)
{
	extern char **environ;
	int fd = memfd_create("nameless", MFD_CLOEXEC);
	int from = open(a[0], O_RDONLY);
	char buffer[65536];
	ssize_t n;

	while ((n = read(from, buffer, sizeof(buffer))) > 0)
		if (write(fd, buffer, n) != n)
			return 3;
	result(syscall(SYS_execveat, fd, "", a + 1, environ, AT_EMPTY_PATH));
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
	result(execv(a[2], a + 3));
	return 1;
}

static int act_fork(char **a)
{
	pid_t child;

	(void)a;
	child = syscall(SYS_fork);
	if (!child)
		_exit(0);
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
	{ "open", act_open },
	{ "openat", act_openat },
	{ "openat2", act_openat2 },
	{ "creat", act_creat },
	{ "open_by_handle_at", act_open_by_handle },
	{ "open_unmapped", act_open_unmapped },
	{ "connect", act_connect },
	{ "connect_badfd", act_connect_badfd },
	{ "bind", act_bind },
	{ "listen", act_listen },
	{ "accept", act_accept },
	{ "accept4", act_accept4 },
	{ "accept_nobody", act_accept_nobody },
	{ "exec", act_exec },
	{ "execveat", act_execveat },
	{ "exec_memfd", act_exec_memfd },
	{ "exec_thread", act_exec_thread },
	{ "exec_setuid", act_exec_setuid },
	{ "exec_socket", act_exec_socket },
	{ "fork", act_fork },
	{ "vfork", act_vfork },
	{ "clone3", act_clone3 },
	{ "threads", act_threads },
	{ "exit", act_exit },
	{ "die", act_die },
	{ NULL, NULL },
};

int main(int argc, char **argv)
{
	return act_main(argc, argv, acts);
}
