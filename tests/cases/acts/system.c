/* SPDX-License-Identifier: Apache-2.0 */
/* Acts on modules, eBPF, and signals to other processes. */
#include "act.h"
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/module.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/utsname.h>
#include <sys/wait.h>

/* IMAGE PARAMETERS: what is no module at all. */
static int act_init_module(char **a)
{
	result(syscall(SYS_init_module, a[0], strlen(a[0]), a[1]));
	return 0;
}

/* The same from a file that does not last. */
static int act_finit_module(char **a)
{
	int fd = must("open", open("no-module", O_RDWR | O_CREAT, 0640));
	struct stat found;
	char device[32];

	must("write", write(fd, a[0], strlen(a[0])));
	must("fstat", fstat(fd, &found));
	must("close", close(fd));
	said("inode", found.st_ino);
	snprintf(device, sizeof(device), "%u:%u", major(found.st_dev), minor(found.st_dev));
	said_text("device", device);
	fd = must("open", open("no-module", O_RDONLY));
	result(syscall(SYS_finit_module, fd, a[1], MODULE_INIT_IGNORE_VERMAGIC));
	unlink("no-module");
	return 0;
}

/* FOLDER: loads the module of this kernel in it, and unloads it again. */
static int act_load_module(char **a)
{
	char path[4096];
	struct utsname kernel;

	must("uname", uname(&kernel));
	snprintf(path, sizeof(path), "%s/%s.ko", a[0], kernel.release);
	result(syscall(SYS_finit_module, must("open", open(path, O_RDONLY)), "", 0));
	must("delete_module", syscall(SYS_delete_module, "dummy", O_NONBLOCK));
	return 0;
}

static int act_delete_module(char **a)
{
	result(syscall(SYS_delete_module, a[0], O_NONBLOCK));
	return 0;
}

static long bpf(int command, union bpf_attr *attr)
{
	return syscall(SYS_bpf, command, attr, sizeof(*attr));
}

static const struct bpf_insn returns_zero[] = {
	{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = 0 },
	{ .code = BPF_JMP | BPF_EXIT },
};

static union bpf_attr a_program(int type, int attach_type)
{
	union bpf_attr attr = {
		.prog_type = type,
		.insn_cnt = 2,
		.insns = (uintptr_t)returns_zero,
		.license = (uintptr_t) "GPL",
		.prog_name = "act_program",
		.expected_attach_type = attach_type,
	};

	return attr;
}

static int load(int type, int attach_type)
{
	union bpf_attr attr = a_program(type, attach_type);

	return must("BPF_PROG_LOAD", bpf(BPF_PROG_LOAD, &attr));
}

/* The id of a program, map or link: struct bpf_*_info all start with type and id. */
static uint32_t id_of(int fd)
{
	uint32_t start[2] = {};
	union bpf_attr attr = {
		.info = { .bpf_fd = fd, .info_len = sizeof(start), .info = (uintptr_t)start },
	};

	must("BPF_OBJ_GET_INFO_BY_FD", bpf(BPF_OBJ_GET_INFO_BY_FD, &attr));
	return start[1];
}

static int load_and_say(int type, int attach_type)
{
	int fd = load(type, attach_type);

	said("program_id", id_of(fd));
	return fd;
}

/* TYPE ATTACH_TYPE */
static int act_prog_load(char **a)
{
	union bpf_attr attr = a_program(atoi(a[0]), atoi(a[1]));
	long fd = result(bpf(BPF_PROG_LOAD, &attr));

	if (fd >= 0)
		said("program_id", id_of(fd));
	return 0;
}

/* Without any instruction. */
static int act_prog_load_refused(char **a)
{
	union bpf_attr attr = a_program(atoi(a[0]), atoi(a[1]));

	attr.insn_cnt = 0;
	result(bpf(BPF_PROG_LOAD, &attr));
	return 0;
}

/* TRACEPOINT */
static int act_raw_tracepoint_open(char **a)
{
	int program = load_and_say(BPF_PROG_TYPE_RAW_TRACEPOINT, 0);
	union bpf_attr attr = {
		.raw_tracepoint = { .name = (uintptr_t)a[0], .prog_fd = program },
	};
	long fd = result(bpf(BPF_RAW_TRACEPOINT_OPEN, &attr));

	if (fd >= 0)
		said("link_id", id_of(fd));
	return 0;
}

/* A program of the network namespace alone, which is one of our own. */
static int flow_dissector(void)
{
	must("unshare", unshare(CLONE_NEWNET));
	return load_and_say(BPF_PROG_TYPE_FLOW_DISSECTOR, 0);
}

static int act_prog_attach(char **a)
{
	union bpf_attr attr = {
		.attach_bpf_fd = flow_dissector(),
		.attach_type = BPF_FLOW_DISSECTOR,
	};

	(void)a;
	result(bpf(BPF_PROG_ATTACH, &attr));
	return 0;
}

static int act_prog_detach(char **a)
{
	union bpf_attr attr = {
		.attach_bpf_fd = flow_dissector(),
		.attach_type = BPF_FLOW_DISSECTOR,
	};

	(void)a;
	must("BPF_PROG_ATTACH", bpf(BPF_PROG_ATTACH, &attr));
	result(bpf(BPF_PROG_DETACH, &attr));
	return 0;
}

/* No program at all, and nothing to attach it to. */
static int act_prog_attach_refused(char **a)
{
	union bpf_attr attr = {
		.target_fd = -1,
		.attach_bpf_fd = open("/dev/null", O_RDONLY),
		.attach_type = BPF_CGROUP_INET_EGRESS,
	};

	(void)a;
	result(bpf(BPF_PROG_ATTACH, &attr));
	return 0;
}

static union bpf_attr a_link(void)
{
	union bpf_attr attr = { .link_create = { .prog_fd = flow_dissector() } };

	attr.link_create.attach_type = BPF_FLOW_DISSECTOR;
	attr.link_create.target_fd = must("open", open("/proc/self/ns/net", O_RDONLY));
	return attr;
}

static int link_and_say(void)
{
	union bpf_attr attr = a_link();
	int fd = must("BPF_LINK_CREATE", bpf(BPF_LINK_CREATE, &attr));

	said("link_id", id_of(fd));
	return fd;
}

static int act_link_create(char **a)
{
	union bpf_attr attr = a_link();
	long fd = result(bpf(BPF_LINK_CREATE, &attr));

	(void)a;
	if (fd >= 0)
		said("link_id", id_of(fd));
	return 0;
}

static int act_link_create_refused(char **a)
{
	union bpf_attr attr = a_link();

	(void)a;
	attr.link_create.target_fd = -1;
	result(bpf(BPF_LINK_CREATE, &attr));
	return 0;
}

/* Puts a second program in the place of the first one; the second one's id is said. */
static int act_link_update(char **a)
{
	union bpf_attr created = a_link();
	int fd = must("BPF_LINK_CREATE", bpf(BPF_LINK_CREATE, &created));
	union bpf_attr attr = { .link_update = { .link_fd = fd } };

	(void)a;
	said("link_id", id_of(fd));
	attr.link_update.new_prog_fd = load_and_say(BPF_PROG_TYPE_FLOW_DISSECTOR, 0);
	result(bpf(BPF_LINK_UPDATE, &attr));
	return 0;
}

static int act_link_detach(char **a)
{
	union bpf_attr attr = { .link_detach = { .link_fd = link_and_say() } };

	(void)a;
	result(bpf(BPF_LINK_DETACH, &attr));
	return 0;
}

static int act_link_get_fd_by_id(char **a)
{
	union bpf_attr attr = { .link_id = id_of(link_and_say()) };

	(void)a;
	result(bpf(BPF_LINK_GET_FD_BY_ID, &attr));
	return 0;
}

/* Finds its own program among all programs, as one does that looks for somebody else's. */
static int act_prog_get_fd_by_id(char **a)
{
	uint32_t wanted = id_of(load_and_say(BPF_PROG_TYPE_SOCKET_FILTER, 0));
	union bpf_attr next = {};

	(void)a;
	while (next.next_id != wanted) {
		next.start_id = next.next_id;
		must("BPF_PROG_GET_NEXT_ID", bpf(BPF_PROG_GET_NEXT_ID, &next));
	}
	union bpf_attr attr = { .prog_id = wanted };
	result(bpf(BPF_PROG_GET_FD_BY_ID, &attr));
	return 0;
}

/* COMMAND ID */
static int act_get_fd_by_id(char **a)
{
	union bpf_attr attr = { .prog_id = strtoul(a[1], NULL, 0) };

	result(bpf(atoi(a[0]), &attr));
	return 0;
}

static int new_map(void)
{
	union bpf_attr attr = {
		.map_type = BPF_MAP_TYPE_ARRAY,
		.key_size = 4,
		.value_size = 8,
		.max_entries = 1,
		.map_name = "act_map",
	};
	int fd = must("BPF_MAP_CREATE", bpf(BPF_MAP_CREATE, &attr));

	said("map_id", id_of(fd));
	return fd;
}

static int act_map_get_fd_by_id(char **a)
{
	union bpf_attr attr = { .map_id = id_of(new_map()) };

	(void)a;
	result(bpf(BPF_MAP_GET_FD_BY_ID, &attr));
	return 0;
}

/* A file system for pins that nobody else sees. */
static void mount_pins(void)
{
	must("unshare", unshare(CLONE_NEWNS));
	must("mount", mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL));
	must("mkdir", mkdir("pins", 0700));
	must("mount", mount("pins", "pins", "bpf", 0, NULL));
}

static void unmount_pins(void)
{
	umount("pins");
	rmdir("pins");
}

static int act_obj_pin(char **a)
{
	union bpf_attr attr = {
		.pathname = (uintptr_t) "pins/map",
		.bpf_fd = new_map(),
	};

	(void)a;
	mount_pins();
	result(bpf(BPF_OBJ_PIN, &attr));
	unmount_pins();
	return 0;
}

static int act_obj_get(char **a)
{
	union bpf_attr attr = {
		.pathname = (uintptr_t) "pins/program",
		.bpf_fd = load_and_say(BPF_PROG_TYPE_SOCKET_FILTER, 0),
	};

	(void)a;
	mount_pins();
	must("BPF_OBJ_PIN", bpf(BPF_OBJ_PIN, &attr));
	attr.bpf_fd = 0;
	result(bpf(BPF_OBJ_GET, &attr));
	unmount_pins();
	return 0;
}

/* Where pins cannot be. */
static int act_obj_pin_refused(char **a)
{
	union bpf_attr attr = {
		.pathname = (uintptr_t) "pin",
		.bpf_fd = load_and_say(BPF_PROG_TYPE_SOCKET_FILTER, 0),
	};

	(void)a;
	result(bpf(BPF_OBJ_PIN, &attr));
	return 0;
}

static int act_obj_get_refused(char **a)
{
	union bpf_attr attr = { .pathname = (uintptr_t)a[0] };

	result(bpf(BPF_OBJ_GET, &attr));
	return 0;
}

/* The next map of this name, see nodeagent/kernel/policy.py; -1 after the last one. */
static int next_map(const char *name, uint32_t *id)
{
	union bpf_attr next = { .start_id = *id };

	while (!bpf(BPF_MAP_GET_NEXT_ID, &next)) {
		union bpf_attr by_id = { .map_id = next.next_id };
		int fd = bpf(BPF_MAP_GET_FD_BY_ID, &by_id);
		struct bpf_map_info info = {};
		union bpf_attr attr = {
			.info = { .bpf_fd = fd,
				  .info_len = sizeof(info),
				  .info = (uintptr_t)&info },
		};

		*id = next.start_id = next.next_id;
		if (fd >= 0 && !bpf(BPF_OBJ_GET_INFO_BY_FD, &attr) && !strcmp(info.name, name))
			return fd;
		close(fd);
	}
	return -1;
}

/* Deletes from each map of the agent's what is not in it, once alone and once as a batch. */
static int act_own_map(char **a)
{
	uint32_t missing = -1;
	uint32_t id = 0;
	int fd;

	while ((fd = next_map(a[0], &id)) >= 0) {
		union bpf_attr one = { .map_fd = fd, .key = (uintptr_t)&missing };
		union bpf_attr batch = {
			.batch = { .keys = (uintptr_t)&missing, .count = 1, .map_fd = fd },
		};

		result(bpf(BPF_MAP_DELETE_ELEM, &one));
		result(bpf(BPF_MAP_DELETE_BATCH, &batch));
		close(fd);
	}
	return 0;
}

/* Takes hold of every program of this name. */
static int act_own_program(char **a)
{
	union bpf_attr next = {};

	while (!bpf(BPF_PROG_GET_NEXT_ID, &next)) {
		union bpf_attr by_id = { .prog_id = next.next_id };
		int fd = bpf(BPF_PROG_GET_FD_BY_ID, &by_id);
		struct bpf_prog_info info = {};
		union bpf_attr attr = {
			.info = { .bpf_fd = fd,
				  .info_len = sizeof(info),
				  .info = (uintptr_t)&info },
		};

		next.start_id = next.next_id;
		if (fd >= 0 && !bpf(BPF_OBJ_GET_INFO_BY_FD, &attr) && !strcmp(info.name, a[0]))
			said("found", next.next_id);
		close(fd);
	}
	return 0;
}

/* Changes a map of nobody but its own, then does what is an event. */
static int act_other_map(char **a)
{
	int fd = new_map();
	uint32_t key = 0;
	uint64_t value = 1;
	union bpf_attr update = {
		.map_fd = fd, .key = (uintptr_t)&key, .value = (uintptr_t)&value
	};
	union bpf_attr attr = { .map_id = id_of(fd) };

	(void)a;
	must("BPF_MAP_UPDATE_ELEM", bpf(BPF_MAP_UPDATE_ELEM, &update));
	result(bpf(BPF_MAP_GET_FD_BY_ID, &attr));
	return 0;
}

/* A child in a process group of its own that waits for whatever comes. */
static pid_t waiting_child(void)
{
	pid_t child = must("fork", fork());

	if (!child) {
		pause();
		_exit(0);
	}
	must("setpgid", setpgid(child, child));
	said("child", child);
	said("group", -child);
	return child;
}

static int end(pid_t child)
{
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	return 0;
}

static int act_kill(char **a)
{
	pid_t child = waiting_child();

	result(syscall(SYS_kill, child, atoi(a[0])));
	return end(child);
}

static int act_kill_group(char **a)
{
	pid_t child = waiting_child();

	result(syscall(SYS_kill, -child, atoi(a[0])));
	return end(child);
}

/* PID SIGNAL */
static int act_kill_number(char **a)
{
	result(syscall(SYS_kill, (int)strtol(a[0], NULL, 0), atoi(a[1])));
	return 0;
}

static int act_tkill(char **a)
{
	pid_t child = waiting_child();

	result(syscall(SYS_tkill, child, atoi(a[0])));
	return end(child);
}

static int act_tgkill(char **a)
{
	pid_t child = waiting_child();

	result(syscall(SYS_tgkill, child, child, atoi(a[0])));
	return end(child);
}

static int act_tgkill_wrong(char **a)
{
	pid_t child = waiting_child();

	result(syscall(SYS_tgkill, child, getpid(), atoi(a[0])));
	return end(child);
}

static int act_rt_sigqueueinfo(char **a)
{
	pid_t child = waiting_child();
	siginfo_t info = { .si_code = SI_QUEUE };

	result(syscall(SYS_rt_sigqueueinfo, child, atoi(a[0]), &info));
	return end(child);
}

static int act_rt_tgsigqueueinfo(char **a)
{
	pid_t child = waiting_child();
	siginfo_t info = { .si_code = SI_QUEUE };

	result(syscall(SYS_rt_tgsigqueueinfo, child, child, atoi(a[0]), &info));
	return end(child);
}

static int act_pidfd_send_signal(char **a)
{
	pid_t child = waiting_child();
	int fd = syscall(SYS_pidfd_open, child, 0);

	result(fd < 0 ? fd : syscall(SYS_pidfd_send_signal, fd, atoi(a[0]), NULL, 0));
	return end(child);
}

/* By the folder in /proc, which does as well. */
static int act_pidfd_send_signal_folder(char **a)
{
	pid_t child = waiting_child();
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d", child);
	result(syscall(SYS_pidfd_send_signal, must(path, open(path, O_RDONLY | O_DIRECTORY)),
		       atoi(a[0]), NULL, 0));
	return end(child);
}

/* To one that has ended and was waited for. */
static int act_pidfd_send_signal_late(char **a)
{
	pid_t child = waiting_child();
	int fd = syscall(SYS_pidfd_open, child, 0);

	end(child);
	result(fd < 0 ? fd : syscall(SYS_pidfd_send_signal, fd, atoi(a[0]), NULL, 0));
	return 0;
}

static int act_pidfd_send_signal_nowhere(char **a)
{
	result(syscall(SYS_pidfd_send_signal, must("open", open("/dev/null", O_RDONLY)),
		       atoi(a[0]), NULL, 0));
	return 0;
}

/* What is no event comes first: a question, and a signal to itself. */
static int act_kill_quietly(char **a)
{
	pid_t child = waiting_child();

	signal(SIGUSR1, SIG_IGN);
	must("kill", syscall(SYS_kill, child, 0));
	must("kill", syscall(SYS_kill, getpid(), SIGUSR1));
	must("tgkill", syscall(SYS_tgkill, getpid(), gettid(), SIGUSR1));
	result(syscall(SYS_kill, child, atoi(a[0])));
	return end(child);
}

static const struct act acts[] = {
	{ "init_module", act_init_module },
	{ "finit_module", act_finit_module },
	{ "load_module", act_load_module },
	{ "delete_module", act_delete_module },
	{ "prog_load", act_prog_load },
	{ "prog_load_refused", act_prog_load_refused },
	{ "raw_tracepoint_open", act_raw_tracepoint_open },
	{ "prog_attach", act_prog_attach },
	{ "prog_attach_refused", act_prog_attach_refused },
	{ "prog_detach", act_prog_detach },
	{ "link_create", act_link_create },
	{ "link_create_refused", act_link_create_refused },
	{ "link_update", act_link_update },
	{ "link_detach", act_link_detach },
	{ "link_get_fd_by_id", act_link_get_fd_by_id },
	{ "prog_get_fd_by_id", act_prog_get_fd_by_id },
	{ "map_get_fd_by_id", act_map_get_fd_by_id },
	{ "get_fd_by_id", act_get_fd_by_id },
	{ "obj_pin", act_obj_pin },
	{ "obj_pin_refused", act_obj_pin_refused },
	{ "obj_get", act_obj_get },
	{ "obj_get_refused", act_obj_get_refused },
	{ "own_map", act_own_map },
	{ "own_program", act_own_program },
	{ "other_map", act_other_map },
	{ "kill", act_kill },
	{ "kill_group", act_kill_group },
	{ "kill_number", act_kill_number },
	{ "kill_quietly", act_kill_quietly },
	{ "tkill", act_tkill },
	{ "tgkill", act_tgkill },
	{ "tgkill_wrong", act_tgkill_wrong },
	{ "rt_sigqueueinfo", act_rt_sigqueueinfo },
	{ "rt_tgsigqueueinfo", act_rt_tgsigqueueinfo },
	{ "pidfd_send_signal", act_pidfd_send_signal },
	{ "pidfd_send_signal_folder", act_pidfd_send_signal_folder },
	{ "pidfd_send_signal_late", act_pidfd_send_signal_late },
	{ "pidfd_send_signal_nowhere", act_pidfd_send_signal_nowhere },
	{ NULL, NULL },
};

int main(int argc, char **argv)
{
	const struct rlimit all = { RLIM_INFINITY, RLIM_INFINITY };

	/* What eBPF is charged to before v5.11. */
	setrlimit(RLIMIT_MEMLOCK, &all);
	return act_main(argc, argv, acts);
}
