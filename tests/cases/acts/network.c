// SPDX-License-Identifier: Apache-2.0
/* Acts on sockets, copies of descriptors, and DNS. */
#include "act.h"
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/filter.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>

#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif
#ifndef SYS_pidfd_getfd
#define SYS_pidfd_getfd 438
#endif

/* A descriptor that nothing has. */
#define NO_FD 99

static long number(const char *text)
{
	return strtol(text, NULL, 0);
}

/* socket FAMILY TYPE PROTOCOL */
static int act_socket(char **a)
{
	result(syscall(SYS_socket, (int)number(a[0]), (int)number(a[1]), (int)number(a[2])));
	return 0;
}

/* Classic filters: let everything through. */
static struct sock_filter everything[] = { { BPF_RET | BPF_K, 0, 0, ~0U } };

/* The same by eBPF; says the id of the program. */
static int program(void)
{
	struct bpf_insn code[] = {
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = -1 },
		{ .code = BPF_JMP | BPF_EXIT },
	};
	union bpf_attr load = { .prog_type = BPF_PROG_TYPE_SOCKET_FILTER,
				.insn_cnt = 2,
				.insns = (uintptr_t)code,
				.license = (uintptr_t) "GPL" };
	struct bpf_prog_info info = { 0 };
	union bpf_attr ask = { .info = { .info_len = sizeof(info), .info = (uintptr_t)&info } };
	struct rlimit limit = { RLIM_INFINITY, RLIM_INFINITY };
	int fd;

	/* Before Linux 5.11 eBPF counts against it; after that it need not be allowed. */
	setrlimit(RLIMIT_MEMLOCK, &limit);
	fd = must("program", syscall(SYS_bpf, BPF_PROG_LOAD, &load, sizeof(load)));
	ask.info.bpf_fd = fd;
	must("program", syscall(SYS_bpf, BPF_OBJ_GET_INFO_BY_FD, &ask, sizeof(ask)));
	said("program", info.id);
	return fd;
}

/* filter FAMILY TYPE PROTOCOL OPTION: no socket at all when the family is 0. */
static int act_filter(char **a)
{
	struct sock_fprog classic = { 1, everything };
	int option = number(a[3]);
	int ebpf = -1;
	int yes = 1;
	int fd = NO_FD;

	if (number(a[0]))
		fd = must("socket", socket(number(a[0]), number(a[1]), number(a[2])));
	said("fd", fd);
	if (option == SO_ATTACH_BPF)
		ebpf = program();
	if (option == SO_ATTACH_REUSEPORT_CBPF)
		must("port", setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &yes, sizeof(yes)));
	/* Of no interest: another option, and the same number at another level. */
	setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &yes, sizeof(yes));
	setsockopt(fd, IPPROTO_IP, option, &classic, sizeof(classic));
	if (ebpf >= 0)
		result(syscall(SYS_setsockopt, fd, SOL_SOCKET, option, &ebpf, sizeof(ebpf)));
	else
		result(syscall(SYS_setsockopt, fd, SOL_SOCKET, option, &classic, sizeof(classic)));
	return 0;
}

union address {
	struct sockaddr any;
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;
};

/* The address of this machine in a family. */
static socklen_t loopback(const char *family, int port, union address *to)
{
	memset(to, 0, sizeof(*to));
	if (!strcmp(family, "inet")) {
		to->v4.sin_family = AF_INET;
		to->v4.sin_port = htons(port);
		to->v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
		return sizeof(to->v4);
	}
	to->v6.sin6_family = AF_INET6;
	to->v6.sin6_port = htons(port);
	to->v6.sin6_addr = in6addr_loopback;
	return sizeof(to->v6);
}

/* The port lies in the same place for IPv4 and IPv6. */
static void say_port(const char *name, int fd)
{
	union address own;
	socklen_t length = sizeof(own);

	getsockname(fd, &own.any, &length);
	said(name, ntohs(own.v4.sin_port));
}

/* A socket that is connected to another one of this process. */
static int connected(const char *family)
{
	union address address;
	socklen_t length = loopback(family, 0, &address);
	int listener = must("socket", socket(address.any.sa_family, SOCK_STREAM, 0));
	int fd = must("socket", socket(address.any.sa_family, SOCK_STREAM, 0));

	must("bind", bind(listener, &address.any, length));
	must("listen", listen(listener, 1));
	must("name", getsockname(listener, &address.any, &length));
	must("connect", connect(fd, &address.any, length));
	say_port("local_port", fd);
	say_port("remote_port", listener);
	return fd;
}

/* What is copied: inet, inet6, unix, pipe, nothing, or a file. */
static int to_copy(const char *what)
{
	int ends[2];

	if (!strcmp(what, "unix"))
		return must("socket", socket(AF_UNIX, SOCK_DGRAM, 0));
	if (!strcmp(what, "nothing"))
		return NO_FD;
	if (!strcmp(what, "pipe")) {
		must("pipe", pipe(ends));
		return ends[0];
	}
	if (what[0] == '/')
		return must("open", open(what, O_RDONLY));
	return connected(what);
}

/* copy CALL WHAT [NEW] */
static int act_copy(char **a)
{
	int old = to_copy(a[1]);
	int new = a[2] ? number(a[2]) : -1;

	said("old_fd", old);
	if (!strcmp(a[0], "dup"))
		result(syscall(SYS_dup, old));
	else if (!strcmp(a[0], "dup2"))
		result(syscall(SYS_dup2, old, new));
	else if (!strcmp(a[0], "dup3"))
		result(syscall(SYS_dup3, old, new, O_CLOEXEC));
	else if (!strcmp(a[0], "fcntl"))
		result(syscall(SYS_fcntl, old, F_DUPFD, new));
	else
		result(syscall(SYS_fcntl, old, F_DUPFD_CLOEXEC, new));
	return 0;
}

static int act_copy_onto_itself(char **a)
{
	int old = to_copy(a[0]);

	said("old_fd", old);
	result(syscall(SYS_dup2, old, old));
	return 0;
}

/* There is no room for another descriptor. */
static int act_copy_full(char **a)
{
	struct rlimit limit;
	int old = to_copy(a[0]);

	said("old_fd", old);
	limit.rlim_cur = limit.rlim_max = old + 1;
	must("limit", setrlimit(RLIMIT_NOFILE, &limit));
	result(syscall(SYS_dup, old));
	return 0;
}

/* steal WHAT: of a child. */
static int act_steal(char **a)
{
	int old = to_copy(a[0]);
	pid_t child = must("fork", fork());
	int pidfd;

	if (!child) {
		pause();
		_exit(0);
	}
	said("child", child);
	said("old_fd", old);
	close(old);
	pidfd = must("pidfd", syscall(SYS_pidfd_open, child, 0));
	result(syscall(SYS_pidfd_getfd, pidfd, old, 0));
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	return 0;
}

/* Of this process, and there is no such descriptor. */
static int act_steal_nothing(char **a)
{
	int pidfd = must("pidfd", syscall(SYS_pidfd_open, getpid(), 0));

	(void)a;
	said("old_fd", NO_FD);
	result(syscall(SYS_pidfd_getfd, pidfd, NO_FD, 0));
	return 0;
}

/* Through what is no pidfd. */
static int act_steal_wrongly(char **a)
{
	(void)a;
	result(syscall(SYS_pidfd_getfd, 0, 0, 0));
	return 0;
}

#define DNS_PORT 53
#define TYPE_A "\0\x01"
#define TYPE_AAAA "\0\x1c"
#define CLASS_IN "\0\x01"
#define NAME "\x07" "example" "\x03" "org" "\0"

struct message {
	const void *bytes;
	size_t size;
};

#define MESSAGE(text) { text, sizeof(text) - 1 }

static const struct message query =
	MESSAGE("\x12\x34\x01\x00\0\x01\0\0\0\0\0\0" NAME TYPE_A CLASS_IN);
static const struct message second_query =
	MESSAGE("\x12\x35\x01\x00\0\x01\0\0\0\0\0\0" NAME TYPE_AAAA CLASS_IN);
/* example.org is another name for www.example.org, which has an address. */
static const struct message answer =
	MESSAGE("\x12\x34\x81\x80\0\x01\0\x02\0\0\0\0" NAME TYPE_A CLASS_IN
		"\xc0\x0c\0\x05" CLASS_IN "\0\0\0\x3c\0\x06\x03" "www\xc0\x0c"
		"\xc0\x29\0\x01" CLASS_IN "\0\0\x01\x2c\0\x04\xc0\0\x02\x01");
static const struct message no_such_name =
	MESSAGE("\x12\x34\x81\x83\0\x01\0\0\0\0\0\0" NAME TYPE_A CLASS_IN);
static const struct message rubbish = MESSAGE("this is no DNS");

struct exchange {
	const char *name;
	const struct message *query;
	const struct message *answer;
};

static const struct exchange exchanges[] = {
	{ "found", &query, &answer },
	{ "unknown", &query, &no_such_name },
	{ "rubbish", &rubbish, &rubbish },
};

/* A network of its own, in which every port is free. */
static void enter_network(void)
{
	struct ifreq request = { .ifr_name = "lo" };
	int fd;

	must("unshare", unshare(CLONE_NEWNET));
	fd = must("socket", socket(AF_INET, SOCK_DGRAM, 0));
	request.ifr_flags = IFF_UP;
	must("loopback", ioctl(fd, SIOCSIFFLAGS, &request));
	close(fd);
}

static void send_all(int fd, const void *bytes, size_t size)
{
	if (send(fd, bytes, size, 0) != (ssize_t)size) {
		perror("send");
		exit(3);
	}
}

static void receive_all(int fd, void *to, size_t size)
{
	if (recv(fd, to, size, MSG_WAITALL) != (ssize_t)size) {
		perror("recv");
		exit(3);
	}
}

/* One message with its length in front, all at once. */
static void send_framed(int fd, const struct message *message)
{
	char buffer[65537] = { message->size >> 8, message->size & 0xff };

	memcpy(buffer + 2, message->bytes, message->size);
	send_all(fd, buffer, message->size + 2);
}

/* The length for itself, as many servers do. */
static void send_split(int fd, const struct message *message)
{
	unsigned char length[2] = { message->size >> 8, message->size & 0xff };
	int on = 1;

	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	send_all(fd, length, sizeof(length));
	send_all(fd, message->bytes, message->size);
}

static void receive_framed(int fd)
{
	unsigned char length[2];
	char buffer[65535];

	receive_all(fd, length, sizeof(length));
	receive_all(fd, buffer, length[0] << 8 | length[1]);
}

static int open_server(const char *family, int type)
{
	union address address;
	socklen_t length = loopback(family, DNS_PORT, &address);
	int fd = must("socket", socket(address.any.sa_family, type, 0));
	int on = 1;

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	must("bind", bind(fd, &address.any, length));
	if (type == SOCK_STREAM)
		must("listen", listen(fd, 1));
	return fd;
}

static int open_client(const char *family, int type)
{
	union address address;
	socklen_t length = loopback(family, DNS_PORT, &address);
	int fd = must("socket", socket(address.any.sa_family, type, 0));

	must("connect", connect(fd, &address.any, length));
	return fd;
}

/* Answers the address that a datagram came from, from a socket that is not connected. */
static void serve_datagram(int fd, const struct exchange *exchange)
{
	char buffer[512];
	union address peer;
	socklen_t length = sizeof(peer);

	must("recv", recvfrom(fd, buffer, sizeof(buffer), 0, &peer.any, &length));
	said("client_port", ntohs(peer.v4.sin_port));
	must("send", sendto(fd, exchange->answer->bytes, exchange->answer->size, 0, &peer.any,
			    length));
}

static void ask_datagram(int fd, const struct exchange *exchange)
{
	char buffer[512];

	send_all(fd, exchange->query->bytes, exchange->query->size);
	must("recv", recv(fd, buffer, sizeof(buffer), 0));
}

static void serve_stream(int listener, const struct exchange *exchange)
{
	union address peer;
	socklen_t length = sizeof(peer);
	int fd = must("accept", accept(listener, &peer.any, &length));
	char end;

	said("client_port", ntohs(peer.v4.sin_port));
	receive_framed(fd);
	send_split(fd, exchange->answer);
	/* The client goes first. */
	recv(fd, &end, 1, 0);
}

static void ask_stream(int fd, const struct exchange *exchange)
{
	send_framed(fd, exchange->query);
	receive_framed(fd);
}

/* Runs one side in a child and the other one here; the server is there first. */
static int talk(const char *role, const char *family, int type, const struct exchange *exchange)
{
	int is_server = !strcmp(role, "server");
	int ready[2];
	pid_t child;
	char byte = 0;
	int fd;

	enter_network();
	must("pipe", pipe(ready));
	child = must("fork", fork());
	/* Only the one here is heard. */
	if (!child)
		must("silence", dup3(ready[0], 1, 0));
	if (is_server == !!child) {
		fd = open_server(family, type);
		must("ready", write(ready[1], &byte, 1));
		type == SOCK_DGRAM ? serve_datagram(fd, exchange) : serve_stream(fd, exchange);
	} else {
		must("ready", read(ready[0], &byte, 1));
		fd = open_client(family, type);
		say_port("client_port", fd);
		type == SOCK_DGRAM ? ask_datagram(fd, exchange) : ask_stream(fd, exchange);
		close(fd);
	}
	if (!child)
		_exit(0);
	waitpid(child, NULL, 0);
	return 0;
}

/* dns ROLE FAMILY udp|tcp EXCHANGE */
static int act_dns(char **a)
{
	const struct exchange *exchange = exchanges;
	int type = !strcmp(a[2], "udp") ? SOCK_DGRAM : SOCK_STREAM;

	while (strcmp(exchange->name, a[3]))
		exchange++;
	return talk(a[0], a[1], type, exchange);
}

/* Both ends of a connection to the port in one process. */
static void open_stream(int *client, int *server)
{
	int listener;

	enter_network();
	listener = open_server("inet", SOCK_STREAM);
	*client = open_client("inet", SOCK_STREAM);
	*server = must("accept", accept(listener, NULL, NULL));
	say_port("client_port", *client);
}

/* Two queries behind each other, each with its length. */
static size_t frame_both(char *buffer)
{
	const struct message *both[] = { &query, &second_query };
	char *end = buffer;

	for (int i = 0; i < 2; i++) {
		*end++ = both[i]->size >> 8;
		*end++ = both[i]->size;
		end = mempcpy(end, both[i]->bytes, both[i]->size);
	}
	return end - buffer;
}

/* Two queries in one packet, as the C library sends them. */
static int act_dns_two(char **a)
{
	char buffer[512];
	int client, server;

	(void)a;
	open_stream(&client, &server);
	send_all(client, buffer, frame_both(buffer));
	receive_framed(server);
	receive_framed(server);
	return 0;
}

/* One query in two packets, the second of which goes on to the next query. */
static int act_dns_pieces(char **a)
{
	char buffer[512];
	size_t first = 2 + 20;
	int client, server;
	int on = 1;
	size_t size = frame_both(buffer);

	(void)a;
	open_stream(&client, &server);
	must("no delay", setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)));
	send_all(client, buffer, first);
	send_all(client, buffer + first, size - first);
	receive_framed(server);
	receive_framed(server);
	return 0;
}

/* More than is kept of a message. */
static int act_dns_long(char **a)
{
	static char bytes[5000];
	struct message message = { bytes, sizeof(bytes) };
	int client, server;

	(void)a;
	memcpy(bytes, answer.bytes, answer.size);
	open_stream(&client, &server);
	send_framed(client, &message);
	receive_framed(server);
	return 0;
}

/* hold listening|bound|connected FAMILY: it is there until the end of the input. */
static int held(char **a)
{
	union address address;
	socklen_t length = loopback(a[1], 0, &address);
	bool streams = !strcmp(a[0], "listening");
	int fd;

	if (!strcmp(a[0], "connected"))
		return connected(a[1]);
	fd = must("socket", socket(address.any.sa_family, streams ? SOCK_STREAM : SOCK_DGRAM, 0));
	must("bind", bind(fd, &address.any, length));
	if (streams)
		must("listen", listen(fd, 3));
	say_port("local_port", fd);
	return fd;
}

/* hold unix: it waits at "held" in this folder. */
static int held_name(void)
{
	struct sockaddr_un name = { AF_UNIX, "held" };
	int fd = must("socket", socket(AF_UNIX, SOCK_STREAM, 0));

	must("bind", bind(fd, (struct sockaddr *)&name, sizeof(name)));
	must("listen", listen(fd, 3));
	return fd;
}

static int act_hold(char **a)
{
	char end;

	if (!strcmp(a[0], "unix"))
		said("fd", held_name());
	else if (!strcmp(a[0], "packets"))
		said("fd", must("socket", socket(AF_PACKET, SOCK_RAW, 0)));
	else
		said("fd", held(a));
	said("holds", 1);
	return read(STDIN_FILENO, &end, 1) ? 1 : 0;
}

static const struct act acts[] = {
	{ "hold", act_hold },
	{ "socket", act_socket },
	{ "filter", act_filter },
	{ "copy", act_copy },
	{ "copy_onto_itself", act_copy_onto_itself },
	{ "copy_full", act_copy_full },
	{ "steal", act_steal },
	{ "steal_nothing", act_steal_nothing },
	{ "steal_wrongly", act_steal_wrongly },
	{ "dns", act_dns },
	{ "dns_two", act_dns_two },
	{ "dns_pieces", act_dns_pieces },
	{ "dns_long", act_dns_long },
	{ NULL, NULL },
};

int main(int argc, char **argv)
{
	return act_main(argc, argv, acts);
}
