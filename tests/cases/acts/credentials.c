/* SPDX-License-Identifier: Apache-2.0 */
/* Acts on user and group ids, capabilities, namespaces and keys. */
#include "act.h"
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/keyctl.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

static unsigned int number(const char *text)
{
	return strtol(text, NULL, 0);
}

/* CALL ID [ID [ID]] */
static int act_setuid(char **a)
{
	result(syscall(SYS_setuid, number(a[0])));
	return 0;
}

static int act_setgid(char **a)
{
	result(syscall(SYS_setgid, number(a[0])));
	return 0;
}

static int act_setreuid(char **a)
{
	result(syscall(SYS_setreuid, number(a[0]), number(a[1])));
	return 0;
}

static int act_setregid(char **a)
{
	result(syscall(SYS_setregid, number(a[0]), number(a[1])));
	return 0;
}

static int act_setresuid(char **a)
{
	result(syscall(SYS_setresuid, number(a[0]), number(a[1]), number(a[2])));
	return 0;
}

static int act_setresgid(char **a)
{
	result(syscall(SYS_setresgid, number(a[0]), number(a[1]), number(a[2])));
	return 0;
}

/* Asks for the old id, too, which is no event. */
static int act_setfsuid(char **a)
{
	said("old", syscall(SYS_setfsuid, number(a[0])));
	said("new", syscall(SYS_setfsuid, -1));
	result(0);
	return 0;
}

static int act_setfsgid(char **a)
{
	said("old", syscall(SYS_setfsgid, number(a[0])));
	said("new", syscall(SYS_setfsgid, -1));
	result(0);
	return 0;
}

/* The same without the right to do so; all ids are 1000 before. */
static void drop(void)
{
	must("setresgid", syscall(SYS_setresgid, 1000, 1000, 1000));
	must("setresuid", syscall(SYS_setresuid, 1000, 1000, 1000));
}

static int act_setuid_denied(char **a)
{
	drop();
	return act_setuid(a);
}

static int act_setresgid_denied(char **a)
{
	drop();
	return act_setresgid(a);
}

static int act_setfsuid_denied(char **a)
{
	drop();
	return act_setfsuid(a);
}

struct sets {
	struct __user_cap_header_struct header;
	struct __user_cap_data_struct data[2];
};

static uint64_t both(uint32_t low, uint32_t high)
{
	return (uint64_t)high << 32 | low;
}

static void say_sets(const char *when, struct sets *sets)
{
	const struct __user_cap_data_struct *data = sets->data;
	char name[64];

	sets->header.version = _LINUX_CAPABILITY_VERSION_3;
	must("capget", syscall(SYS_capget, &sets->header, sets->data));
	snprintf(name, sizeof(name), "%s_effective", when);
	said(name, both(data[0].effective, data[1].effective));
	snprintf(name, sizeof(name), "%s_permitted", when);
	said(name, both(data[0].permitted, data[1].permitted));
	snprintf(name, sizeof(name), "%s_inheritable", when);
	said(name, both(data[0].inheritable, data[1].inheritable));
}

/* Gives up one capability, makes another one inheritable. */
static int act_capset(char **a)
{
	struct sets sets = {};

	(void)a;
	say_sets("old", &sets);
	sets.data[0].effective &= ~(1U << CAP_KILL);
	sets.data[0].permitted &= ~(1U << CAP_KILL);
	sets.data[0].inheritable |= 1U << CAP_CHOWN;
	result(syscall(SYS_capset, &sets.header, sets.data));
	say_sets("new", &sets);
	return 0;
}

/* Wants one back that it has given up. */
static int act_capset_denied(char **a)
{
	struct sets sets = {};

	(void)a;
	drop();
	say_sets("old", &sets);
	sets.data[0].effective |= 1U << CAP_KILL;
	sets.data[0].permitted |= 1U << CAP_KILL;
	result(syscall(SYS_capset, &sets.header, sets.data));
	return 0;
}

/* FLAGS */
static int act_unshare(char **a)
{
	result(syscall(SYS_unshare, strtoul(a[0], NULL, 0)));
	return 0;
}

/* NAMESPACE FLAGS: one of its own. */
static int act_setns(char **a)
{
	char path[64];
	struct stat found;
	int fd;

	snprintf(path, sizeof(path), "/proc/self/ns/%s", a[0]);
	fd = must(path, open(path, O_RDONLY));
	must("fstat", fstat(fd, &found));
	said("inode", found.st_ino);
	result(syscall(SYS_setns, fd, number(a[1])));
	return 0;
}

/* PATH FLAGS */
static int act_setns_file(char **a)
{
	result(syscall(SYS_setns, must(a[0], open(a[0], O_RDONLY)), number(a[1])));
	return 0;
}

/* FLAGS: of a child. */
static int act_setns_pidfd(char **a)
{
	pid_t child = must("fork", fork());
	int fd;

	if (!child) {
		pause();
		_exit(0);
	}
	said("child", child);
	fd = syscall(SYS_pidfd_open, child, 0);
	result(fd < 0 ? fd : syscall(SYS_setns, fd, number(a[0])));
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	return 0;
}

static long process_key(const char *description)
{
	return must("add_key", syscall(SYS_add_key, "user", description, "secret", 6,
				       KEY_SPEC_PROCESS_KEYRING));
}

/* TYPE DESCRIPTION */
static int act_add_key(char **a)
{
	result(syscall(SYS_add_key, a[0], a[1], "secret", 6, KEY_SPEC_PROCESS_KEYRING));
	return 0;
}

static int act_request_key(char **a)
{
	process_key("nodeagent-requested");
	result(syscall(SYS_request_key, a[0], a[1], NULL, KEY_SPEC_THREAD_KEYRING));
	return 0;
}

static int act_join_session_keyring(char **a)
{
	result(syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, a[0]));
	return 0;
}

static int act_key_search(char **a)
{
	process_key("nodeagent-searched");
	result(syscall(SYS_keyctl, KEYCTL_SEARCH, KEY_SPEC_PROCESS_KEYRING, a[0], a[1], 0));
	return 0;
}

static int act_key_read(char **a)
{
	char secret[64];
	long key = process_key("nodeagent-read");

	(void)a;
	said("key", key);
	result(syscall(SYS_keyctl, KEYCTL_READ, key, secret, sizeof(secret)));
	return 0;
}

/* OPERATION ARGUMENT */
static int act_keyctl(char **a)
{
	result(syscall(SYS_keyctl, number(a[0]), strtol(a[1], NULL, 0), 0, 0, 0));
	return 0;
}

static const struct act acts[] = {
	{ "setuid", act_setuid },
	{ "setgid", act_setgid },
	{ "setreuid", act_setreuid },
	{ "setregid", act_setregid },
	{ "setresuid", act_setresuid },
	{ "setresgid", act_setresgid },
	{ "setfsuid", act_setfsuid },
	{ "setfsgid", act_setfsgid },
	{ "setuid_denied", act_setuid_denied },
	{ "setresgid_denied", act_setresgid_denied },
	{ "setfsuid_denied", act_setfsuid_denied },
	{ "capset", act_capset },
	{ "capset_denied", act_capset_denied },
	{ "unshare", act_unshare },
	{ "setns", act_setns },
	{ "setns_file", act_setns_file },
	{ "setns_pidfd", act_setns_pidfd },
	{ "add_key", act_add_key },
	{ "request_key", act_request_key },
	{ "join_session_keyring", act_join_session_keyring },
	{ "key_search", act_key_search },
	{ "key_read", act_key_read },
	{ "keyctl", act_keyctl },
	{ NULL, NULL },
};

int main(int argc, char **argv)
{
	return act_main(argc, argv, acts);
}
