// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* The system itself: kernel modules, eBPF, signals to other processes. */
#include <vmlinux.h>
#include <bpf/bpf_tracing.h>
#include "anonymous.h"
#include "call.h"
#include "emit.h"
#include "path.h"
#include "pidfd.h"

/* MODULE_NAME_LEN: 64 - sizeof(unsigned long). */
#define MODULE_NAME_BYTES 56
/* BPF_OBJ_NAME_LEN. */
#define OBJECT_NAME_BYTES 16
/* KSYM_NAME_LEN of older kernels is 128. */
#define FUNCTION_NAME_BYTES 512

/* include/uapi/linux/pidfd.h; the first one is O_EXCL. */
#define PIDFD_THREAD 0200
#define PIDFD_SIGNAL_THREAD 1

struct module_name {
	char text[MODULE_NAME_BYTES];
};

/* Modules that threads are loading or unloading, as the kernel knows them. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 256);
	__type(key, __u64);
	__type(value, struct module_name);
} modules_under_way SEC(".maps");

static __always_inline int remember_module(struct module *module)
{
	__u64 thread = bpf_get_current_pid_tgid();
	struct module_name name;

	bpf_core_read(&name, sizeof(name), &module->name);
	bpf_map_update_elem(&modules_under_way, &thread, &name, BPF_ANY);
	return 0;
}

/* void module_load(struct module *mod) */
SEC("tp_btf/module_load")
int BPF_PROG(on_module_load, struct module *module)
{
	return remember_module(module);
}

/* void module_free(struct module *mod) */
SEC("tp_btf/module_free")
int BPF_PROG(on_module_free, struct module *module)
{
	return remember_module(module);
}

/* With the name that remember_module() left, if the kernel got that far. */
static __always_inline struct module_event *reserve_module(long result)
{
	struct module_event *event = emit_reserve(EVENT_MODULE, sizeof(*event));
	__u64 thread = bpf_get_current_pid_tgid();
	struct module_name *name = bpf_map_lookup_elem(&modules_under_way, &thread);

	if (event)
		event->event.result = result;
	if (event && name)
		append_string(event, &event->name, name->text, MODULE_NAME_BYTES, false);
	/* The next module of this thread is another one, so take it even if nobody wants it. */
	bpf_map_delete_elem(&modules_under_way, &thread);
	return event;
}

/* long init_module(void *umod, unsigned long len, const char *uargs) */
AFTER(init_module, sys_init_module)
{
	struct module_event *event = reserve_module(result);

	if (!event)
		return 0;
	append_string(event, &event->parameters, (void *)passed->third, PATH_BYTES, true);
	emit_submit(event, EVENT_MODULE);
	return 0;
}

/* long finit_module(int fd, const char *uargs, int flags) */
AFTER(finit_module, sys_finit_module)
{
	struct module_event *event = reserve_module(result);
	struct file *file;

	if (!event)
		return 0;
	event->flags = passed->third;
	append_string(event, &event->parameters, (void *)passed->second, PATH_BYTES, true);
	file = file_of(passed->first);
	if (file) {
		fill_file(scratch_of(event), &event->file, &event->version,
			  BPF_CORE_READ(file, f_inode));
		append_file_path(event, &event->path, file);
	}
	emit_submit(event, EVENT_MODULE);
	return 0;
}

/* long delete_module(const char *name_user, unsigned int flags) */
AFTER(delete_module, sys_delete_module)
{
	struct module_event *event = reserve_module(result);

	if (!event)
		return 0;
	event->flags = passed->second;
	event->unloaded = 1;
	if (!event->name.length)
		append_string(event, &event->name, (void *)passed->first, MODULE_NAME_BYTES, true);
	emit_submit(event, EVENT_MODULE);
	return 0;
}

/* The maps, programs and links of the agent by their ids, which stay while it holds them. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 256);
	__type(key, __u32);
	__type(value, __u8);
} own_maps SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, __u32);
	__type(value, __u8);
} own_programs SEC(".maps");

/* A link can be given another program, and is still that of the agent. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, __u32);
	__type(value, __u8);
} own_links SEC(".maps");

/* What was passed to bpf(2), in the caller's memory. */
struct passed_attr {
	__u64 start;
	__u64 size;
};

/* Like the kernel, takes what lies behind the end for zero. */
static __always_inline __u64 attr_field(const struct passed_attr *attr, __u32 offset, __u32 size)
{
	__u64 value = 0;

	if (offset + size <= attr->size)
		bpf_probe_read_user(&value, size, (void *)attr->start + offset);
	return value;
}

/* The layout is part of the interface with user space, so it is the same on every kernel. */
#define ATTR(attr, field)                                           \
	attr_field(attr, __builtin_offsetof(union bpf_attr, field), \
		   sizeof(((union bpf_attr *)0)->field))

#define COMMAND(name) (1ULL << BPF_##name)

/*
 * What is told of everybody. The rest is no event: questions (ids, information, statistics),
 * BTF and maps, which serve programs that are told of, and test runs of such programs.
 */
#define TOLD                                                                                       \
	(COMMAND(PROG_LOAD) | COMMAND(PROG_ATTACH) | COMMAND(PROG_DETACH) |                        \
	 COMMAND(RAW_TRACEPOINT_OPEN) | COMMAND(LINK_CREATE) | COMMAND(LINK_UPDATE) |              \
	 COMMAND(LINK_DETACH) | COMMAND(OBJ_PIN) | COMMAND(OBJ_GET) | COMMAND(PROG_GET_FD_BY_ID) | \
	 COMMAND(MAP_GET_FD_BY_ID) | COMMAND(LINK_GET_FD_BY_ID))

/* Changes of maps: of other people's maps they are bulk, of the agent's an attack. */
#define TOLD_OF_OWN                                            \
	(COMMAND(MAP_UPDATE_ELEM) | COMMAND(MAP_DELETE_ELEM) | \
	 COMMAND(MAP_LOOKUP_AND_DELETE_ELEM) | COMMAND(MAP_FREEZE) | CHANGES_BATCH)
#define CHANGES_BATCH                                                       \
	(COMMAND(MAP_LOOKUP_AND_DELETE_BATCH) | COMMAND(MAP_UPDATE_BATCH) | \
	 COMMAND(MAP_DELETE_BATCH))

static __always_inline bool is_one_of(__u32 command, __u64 commands)
{
	return command < 64 && ((commands >> command) & 1);
}

/* The descriptor of the program, map or link that a command is about. */
static __always_inline int subject_of(__u32 command, const struct passed_attr *attr, long result)
{
	switch (command) {
	case BPF_PROG_ATTACH:
	case BPF_PROG_DETACH:
		return ATTR(attr, attach_bpf_fd);
	case BPF_OBJ_PIN:
		return ATTR(attr, bpf_fd);
	case BPF_LINK_UPDATE:
		return ATTR(attr, link_update.link_fd);
	case BPF_LINK_DETACH:
		return ATTR(attr, link_detach.link_fd);
	case BPF_LINK_CREATE:
		return result < 0 ? ATTR(attr, link_create.prog_fd) : result;
	case BPF_RAW_TRACEPOINT_OPEN:
		return result < 0 ? ATTR(attr, raw_tracepoint.prog_fd) : result;
	}
	if (is_one_of(command, CHANGES_BATCH))
		return ATTR(attr, batch.map_fd);
	return is_one_of(command, TOLD_OF_OWN) ? ATTR(attr, map_fd) : result;
}

static __always_inline bool is_own_map(struct file *file)
{
	struct bpf_map *map;
	__u32 id;

	if (anonymous_name(file) != NAME_OF("bpf-map"))
		return false;
	map = BPF_CORE_READ(file, private_data);
	id = BPF_CORE_READ(map, id);
	return bpf_map_lookup_elem(&own_maps, &id);
}

/* Zero is the first type of all, and what programs have that are attached in other ways. */
static __always_inline __u32 attach_type_of(__u32 program_type, __u32 expected)
{
	return expected || program_type == BPF_PROG_TYPE_CGROUP_SKB ? expected : ~0U;
}

static __always_inline void fill_program(struct bpf_event *event, struct bpf_prog *program)
{
	struct bpf_prog_aux *aux = BPF_CORE_READ(program, aux);
	const char *function = BPF_CORE_READ(aux, attach_func_name);

	event->program_id = BPF_CORE_READ(aux, id);
	event->program_type = BPF_CORE_READ(program, type);
	event->attach_type = attach_type_of(event->program_type,
					    BPF_CORE_READ(program, expected_attach_type));
	append_string(event, &event->name, __builtin_preserve_access_index(&aux->name),
		      OBJECT_NAME_BYTES, false);
	if (function)
		append_string(event, &event->attach_point, function, FUNCTION_NAME_BYTES, false);
}

static __always_inline void fill_map(struct bpf_event *event, struct bpf_map *map)
{
	event->map_id = BPF_CORE_READ(map, id);
	append_string(event, &event->name, __builtin_preserve_access_index(&map->name),
		      OBJECT_NAME_BYTES, false);
}

/* The kernel's name of a raw tracepoint, where the program itself has none. */
static __always_inline void fill_link(struct bpf_event *event, struct bpf_link *link)
{
	struct bpf_raw_tp_link *raw = (struct bpf_raw_tp_link *)link;
	struct bpf_prog *program = BPF_CORE_READ(link, prog);

	event->link_id = BPF_CORE_READ(link, id);
	if (program)
		fill_program(event, program);
	if (!event->attach_point.length &&
	    BPF_CORE_READ(link, type) == BPF_LINK_TYPE_RAW_TRACEPOINT)
		append_string(event, &event->attach_point, BPF_CORE_READ(raw, btp, tp, name),
			      FUNCTION_NAME_BYTES, false);
}

static __always_inline void fill_subject(struct bpf_event *event, struct file *file)
{
	__u64 name = anonymous_name(file);
	void *object;

	if (!name)
		return;
	object = BPF_CORE_READ(file, private_data);
	if (name == NAME_OF("bpf-prog"))
		fill_program(event, object);
	else if (name == NAME_OF("bpf-map"))
		fill_map(event, object);
	else if (name == NAME_OF("bpf_link") || name == NAME_OF("bpf-link"))
		fill_link(event, object);
}

/* What no kernel object tells. */
static __always_inline void fill_passed(struct bpf_event *event, const struct passed_attr *attr)
{
	switch (event->command) {
	case BPF_PROG_ATTACH:
	case BPF_PROG_DETACH:
		event->attach_type = ATTR(attr, attach_type);
		break;
	case BPF_LINK_CREATE:
		event->attach_type = ATTR(attr, link_create.attach_type);
		break;
	case BPF_OBJ_PIN:
	case BPF_OBJ_GET:
		append_string(event, &event->pathname, (void *)ATTR(attr, pathname), PATH_BYTES,
			      true);
		break;
	}
}

/* What an attempt was about that failed, where the object was never there. */
static __always_inline void fill_wish(struct bpf_event *event, const struct passed_attr *attr)
{
	switch (event->command) {
	case BPF_PROG_LOAD:
		event->program_type = ATTR(attr, prog_type);
		event->attach_type = attach_type_of(event->program_type,
						    ATTR(attr, expected_attach_type));
		append_string(event, &event->name,
			      (void *)attr->start + __builtin_offsetof(union bpf_attr, prog_name),
			      OBJECT_NAME_BYTES, true);
		break;
	case BPF_RAW_TRACEPOINT_OPEN:
		append_string(event, &event->attach_point, (void *)ATTR(attr, raw_tracepoint.name),
			      FUNCTION_NAME_BYTES, true);
		break;
	case BPF_PROG_GET_FD_BY_ID:
		event->program_id = ATTR(attr, prog_id);
		break;
	case BPF_MAP_GET_FD_BY_ID:
		event->map_id = ATTR(attr, map_id);
		break;
	case BPF_LINK_GET_FD_BY_ID:
		event->link_id = ATTR(attr, link_id);
		break;
	}
}

static __always_inline struct bpf_event *reserve_bpf(long result, __u32 command)
{
	struct bpf_event *event = emit_reserve(EVENT_BPF, sizeof(*event));

	if (!event)
		return NULL;
	event->event.result = result;
	event->command = command;
	event->program_type = -1;
	event->attach_type = -1;
	return event;
}

/* long bpf(int cmd, union bpf_attr *uattr, unsigned int size) */
AFTER(bpf, sys_bpf)
{
	struct passed_attr attr;
	struct bpf_event *event;
	struct file *file;

	if (!is_one_of(passed->first, TOLD | TOLD_OF_OWN))
		return 0;
	attr.start = passed->second;
	attr.size = (__u32)passed->third;
	file = file_of(subject_of(passed->first, &attr, result));
	if (!is_one_of(passed->first, TOLD) && !is_own_map(file))
		return 0;
	event = reserve_bpf(result, passed->first);
	if (!event)
		return 0;
	fill_subject(event, file);
	fill_passed(event, &attr);
	if (result < 0)
		fill_wish(event, &attr);
	event->own = bpf_map_lookup_elem(&own_maps, &event->map_id) ||
		     bpf_map_lookup_elem(&own_programs, &event->program_id) ||
		     bpf_map_lookup_elem(&own_links, &event->link_id);
	emit_submit(event, EVENT_BPF);
	return 0;
}

/* Whether this is the number of the current process in its own pid namespace. */
static __always_inline bool is_caller(int number)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	struct pid *pid = BPF_CORE_READ(task, group_leader, thread_pid);
	__u32 level = BPF_CORE_READ(pid, level);
	int own = 0;

	bpf_core_read(&own, sizeof(own), &pid->numbers[level].nr);
	return own == number;
}

static __always_inline struct kill_event *reserve_kill(long result, __u32 signal)
{
	struct kill_event *kill = emit_reserve(EVENT_KILL, sizeof(*kill));

	if (!kill)
		return NULL;
	kill->event.result = result;
	kill->signal = signal;
	return kill;
}

static __always_inline int sent(long result, int pid, __u32 tid, __u32 signal)
{
	struct kill_event *kill;

	/*
	 * Signal 0 only asks whether there is somebody. Signals of a process to itself are how
	 * runtimes stop their threads, thousands of times a second.
	 */
	if (!signal || is_caller(pid))
		return 0;
	kill = reserve_kill(result, signal);
	if (!kill)
		return 0;
	kill->target.passed_pid = pid;
	kill->target_tid = tid;
	emit_submit(kill, EVENT_KILL);
	return 0;
}

/* long kill(pid_t pid, int sig) */
AFTER(kill, sys_kill)
{
	return sent(result, passed->first, 0, passed->second);
}

/* long tkill(pid_t pid, int sig) */
AFTER(tkill, sys_tkill)
{
	/* It names no process: the number is one only for a main thread. */
	return sent(result, passed->first, passed->first, passed->second);
}

/* long tgkill(pid_t tgid, pid_t pid, int sig) */
AFTER(tgkill, sys_tgkill)
{
	return sent(result, passed->first, passed->second, passed->third);
}

/* long rt_sigqueueinfo(pid_t pid, int sig, siginfo_t *uinfo) */
AFTER(rt_sigqueueinfo, compat_sys_rt_sigqueueinfo)
{
	return sent(result, passed->first, 0, passed->second);
}

/* long rt_tgsigqueueinfo(pid_t tgid, pid_t pid, int sig, siginfo_t *uinfo) */
AFTER(rt_tgsigqueueinfo, compat_sys_rt_tgsigqueueinfo)
{
	return sent(result, passed->first, passed->second, passed->third);
}

/* Whether a signal goes to the thread of a pidfd alone, see pidfd_send_signal(2). */
static __always_inline bool is_for_thread(struct file *file, __u32 flags)
{
	if (flags)
		return flags & PIDFD_SIGNAL_THREAD;
	return BPF_CORE_READ(file, f_flags) & PIDFD_THREAD;
}

/* long pidfd_send_signal(int pidfd, int sig, siginfo_t *info, unsigned int flags) */
AFTER(pidfd_send_signal, sys_pidfd_send_signal)
{
	struct kill_event *kill;
	struct file *file;
	struct pid *pid;

	file = file_of(passed->first);
	pid = pid_of_folder(file);
	if (!(__u32)passed->second ||
	    (pid && first_number(pid) == bpf_get_current_pid_tgid() >> 32))
		return 0;
	kill = reserve_kill(result, passed->second);
	if (!kill)
		return 0;
	if (pid) {
		fill_other_of(&kill->target, pid);
		kill->target_tid = is_for_thread(file, passed->fourth) ? first_number(pid) : 0;
	}
	emit_submit(kill, EVENT_KILL);
	return 0;
}

/*
 * void cgroup_mkdir(struct cgroup *cgrp, const char *path)
 *
 * A container of a moment is gone before anybody can look, so its path comes with its birth.
 */
SEC("tp_btf/cgroup_mkdir")
int BPF_PROG(on_cgroup_mkdir, struct cgroup *cgroup, const char *path)
{
	struct new_cgroup_event *event;

	if (!is_in_hierarchy(cgroup))
		return 0;
	event = emit_reserve(EVENT_NEW_CGROUP, sizeof(*event));
	if (!event)
		return 0;
	event->id = BPF_CORE_READ(cgroup, kn, id);
	append_string(event, &event->path, path, PATH_BYTES, false);
	emit_submit(event, EVENT_NEW_CGROUP);
	return 0;
}
