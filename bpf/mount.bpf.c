// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Mounts and roots: mount, umount, pivot_root, chroot, seen when the call returns. */
#include <vmlinux.h>
#include "call.h"
#include "emit.h"
#include "target.h"

#define MS_REMOUNT 0x20
#define MS_BIND 0x1000
#define MS_MOVE 0x2000
/* What programs put on top of the flags before Linux 2.4; still done, and still ignored. */
#define MS_MGC_VAL 0xC0ED0000
#define MS_MGC_MASK 0xffff0000

#define MOVE_MOUNT_F_EMPTY_PATH 0x4
#define MOVE_MOUNT_T_EMPTY_PATH 0x40
#define MOVE_MOUNT_SET_GROUP 0x100

/* The longest path of a folder that is kept while a call takes it away. */
#define PLACE_BYTES 2048

/* The working directory of a thread. */
struct place {
	struct path_text path;
	char leaf_first[PLACE_BYTES];
};

/* Where threads were when they called what may take the folder from under them. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 128);
	__type(key, __u64);
	__type(value, struct place);
} places_before SEC(".maps");

static __always_inline int remember_place(void)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	__u64 thread = bpf_get_current_pid_tgid();
	struct scratch *scratch = take_scratch();
	struct place *place;

	if (!scratch)
		return 0;
	/* At the end of the record, so that a path that is too long is cut as any other. */
	place = (struct place *)&scratch->record[RECORD_MAX - sizeof(*place)];
	scratch->used = RECORD_MAX - sizeof(place->leaf_first);
	append_cwd(scratch->record, &place->path, task);
	bpf_map_update_elem(&places_before, &thread, place, BPF_ANY);
	give_back(scratch);
	return 0;
}

/* What remember_place() left. */
static __always_inline struct place *place_before(void)
{
	__u64 thread = bpf_get_current_pid_tgid();

	return bpf_map_lookup_elem(&places_before, &thread);
}

static __always_inline void forget_place(void)
{
	__u64 thread = bpf_get_current_pid_tgid();

	bpf_map_delete_elem(&places_before, &thread);
}

static __always_inline void append_place(void *record, struct path_text *path,
					 const struct place *place)
{
	const struct text *kept = &place->path.leaf_first;

	if (!place) {
		path->leaf_first.error = -ENOENT;
		return;
	}
	append_bytes(record, &path->leaf_first, place->leaf_first, kept->length, PLACE_BYTES,
		     false);
	path->leaf_first.truncated |= kept->truncated;
	path->leaf_first.error |= kept->error;
}

/* A relative name starts where the thread was before. */
static __always_inline void append_target_from(void *record, struct target *to, __u64 name,
					       const struct place *place)
{
	if (append_name(record, to, name))
		append_root(record, &to->base);
	else
		append_place(record, &to->base, place);
}

static __always_inline struct mount_event *reserve_mount(long result, enum mount_call call)
{
	struct mount_event *event = emit_reserve(EVENT_MOUNT, sizeof(*event));

	if (!event)
		return NULL;
	event->event.result = result;
	event->call = call;
	event->unverified = 1;
	return event;
}

static __always_inline __u64 without_magic(__u64 flags)
{
	return (flags & MS_MGC_MASK) == MS_MGC_VAL ? flags & ~(__u64)MS_MGC_MASK : flags;
}

/* A word that means what the file system likes, unless it is a file to mount elsewhere. */
static __always_inline void append_source(struct mount_event *event, __u64 name)
{
	if ((event->flags & (MS_BIND | MS_MOVE)) && !(event->flags & MS_REMOUNT))
		append_passed_target(event, &event->source, (struct named){ AT_FDCWD, name });
	else if (name)
		append_string(event, &event->source.argument, (void *)name, PATH_BYTES, true);
}

/* long mount(char *dev_name, char *dir_name, char *type, unsigned long flags, void *data) */
AFTER(mount, sys_mount)
{
	struct mount_event *event = reserve_mount(result, MOUNT_CALL_MOUNT);

	if (!event)
		return 0;
	event->flags = without_magic(passed->fourth);
	append_source(event, passed->first);
	append_passed_target(event, &event->target, (struct named){ AT_FDCWD, passed->second });
	if (passed->third)
		append_string(event, &event->type, (void *)passed->third, PATH_BYTES, true);
	emit_submit(event, EVENT_MOUNT);
	return 0;
}

static __always_inline struct mount *mount_of(struct file *file)
{
	return container_of(BPF_CORE_READ(file, f_path.mnt), struct mount, mnt);
}

/* What the kernel knows of a mount, wherever it is. */
static __always_inline void append_mount(struct mount_event *event, struct mount *mount)
{
	const char *source = BPF_CORE_READ(mount, mnt_devname);

	if (source)
		append_string(event, &event->source.argument, source, PATH_BYTES, false);
	append_string(event, &event->type, BPF_CORE_READ(mount, mnt.mnt_sb, s_type, name),
		      PATH_BYTES, false);
}

/* False for a mount that is nowhere: it has no parent, and is no root either. */
static __always_inline bool is_attached(struct mount *mount)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();

	return BPF_CORE_READ(mount, mnt_parent) != mount ||
	       BPF_CORE_READ(task, nsproxy, mnt_ns, root) == mount;
}

/* The file that a call means by a descriptor alone, or NULL. */
static __always_inline struct file *file_alone(struct named passed, bool may_be_empty)
{
	return may_be_empty && is_empty(passed.name) ? file_of(passed.folder) : NULL;
}

static __always_inline void append_moved(struct mount_event *event, struct named from,
					 struct named to, __u32 flags)
{
	struct file *file = file_alone(from, flags & MOVE_MOUNT_F_EMPTY_PATH);

	if (file)
		append_mount(event, mount_of(file));
	else
		append_passed_target(event, &event->source, from);
	/* It is there now, which says more than what was passed. */
	if (file && !event->event.result && !(flags & MOVE_MOUNT_SET_GROUP))
		append_file_path(event, &event->target.path, file);
	else
		append_target_at(event, &event->target, to,
				 flags & MOVE_MOUNT_T_EMPTY_PATH ? AT_EMPTY_PATH : 0);
}

/* long move_mount(int from_dfd, const char *from_pathname, int to_dfd, const char *to_pathname, unsigned int flags) */
AFTER(move_mount, sys_move_mount)
{
	struct mount_event *event = reserve_mount(result, MOUNT_CALL_MOVE_MOUNT);

	if (!event)
		return 0;
	append_moved(event, (struct named){ passed->first, passed->second },
		     (struct named){ passed->third, passed->fourth }, passed->fifth);
	emit_submit(event, EVENT_MOUNT);
	return 0;
}

static __always_inline void append_changed(struct mount_event *event, struct named passed,
					   __u32 flags)
{
	struct file *file = file_alone(passed, flags & AT_EMPTY_PATH);
	struct mount *mount;

	if (!file) {
		append_target_at(event, &event->target, passed, flags);
		return;
	}
	mount = mount_of(file);
	append_mount(event, mount);
	if (is_attached(mount))
		append_file_path(event, &event->target.path, file);
}

/* long mount_setattr(int dfd, const char *path, unsigned int flags, struct mount_attr *uattr, size_t usize) */
AFTER(mount_setattr, sys_mount_setattr)
{
	struct mount_event *event = reserve_mount(result, MOUNT_CALL_MOUNT_SETATTR);

	if (!event)
		return 0;
	/* struct mount_attr starts with what is set and what is cleared. */
	bpf_probe_read_user(&event->attributes, sizeof(event->attributes), (void *)passed->fourth);
	bpf_probe_read_user(&event->cleared, sizeof(event->cleared),
			    (void *)passed->fourth + sizeof(event->attributes));
	append_changed(event, (struct named){ passed->first, passed->second }, passed->third);
	emit_submit(event, EVENT_MOUNT);
	return 0;
}

/* long umount(char *name, int flags) */
BEFORE(umount, sys_umount)
{
	return remember_place();
}

static __always_inline int unmounted(long result, __u64 name, __u32 flags)
{
	struct umount_event *event = emit_reserve(EVENT_UMOUNT, sizeof(*event));

	if (event) {
		event->event.result = result;
		event->flags = flags;
		event->unverified = 1;
		append_target_from(event, &event->target, name, place_before());
		emit_submit(event, EVENT_UMOUNT);
	}
	forget_place();
	return 0;
}

AFTER(umount, sys_umount)
{
	return unmounted(result, passed->first, passed->second);
}

/* long oldumount(char *name) */
BEFORE_32(oldumount, sys_oldumount)
{
	return remember_place();
}

AFTER_32(oldumount, sys_oldumount)
{
	return unmounted(result, passed->first, 0);
}

/* long pivot_root(const char *new_root, const char *put_old) */
BEFORE(pivot_root, sys_pivot_root)
{
	return remember_place();
}

AFTER(pivot_root, sys_pivot_root)
{
	struct pivot_root_event *event = emit_reserve(EVENT_PIVOT_ROOT, sizeof(*event));
	struct place *place;

	if (event) {
		place = place_before();
		event->event.result = result;
		event->unverified = 1;
		append_target_from(event, &event->new_root, passed->first, place);
		append_target_from(event, &event->put_old, passed->second, place);
		emit_submit(event, EVENT_PIVOT_ROOT);
	}
	forget_place();
	return 0;
}

/* long chroot(const char *filename) */
AFTER(chroot, sys_chroot)
{
	struct chroot_event *event = emit_reserve(EVENT_CHROOT, sizeof(*event));

	if (!event)
		return 0;
	event->event.result = result;
	event->unverified = !!result;
	if (result)
		append_passed_target(event, &event->root,
				     (struct named){ AT_FDCWD, passed->first });
	else
		append_root(event, &event->root.path);
	emit_submit(event, EVENT_CHROOT);
	return 0;
}
