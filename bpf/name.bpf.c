// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Names of files, their permissions and owners: seen when the call returns.
 *
 * No kernel object is left of what a name led to, so it is told as it was passed.
 */
#include <vmlinux.h>
#include "emit.h"
#include "target.h"

#define AT_REMOVEDIR 0x200

/* S_IALLUGO: the kernel takes no other bits of a mode. */
#define MODE_BITS 07777

static __always_inline int renamed(long result, struct named old, struct named new, __u32 flags)
{
	struct rename_event *event = emit_reserve(EVENT_RENAME, sizeof(*event));
	bool absolute;

	if (!event)
		return 0;
	event->event.result = result;
	event->flags = flags;
	event->unverified = 1;
	absolute = append_passed_target(event, &event->old, old);
	append_next_target(event, &event->new, new, &event->old, old.folder, absolute);
	emit_submit(event, EVENT_RENAME);
	return 0;
}

/* long rename(const char *oldname, const char *newname) */
SEC("tp/syscalls/sys_exit_rename")
int exit_rename(struct trace_event_raw_sys_exit *context)
{
	struct arguments passed;

	read_arguments(&passed);
	return renamed(context->ret, (struct named){ AT_FDCWD, passed.first },
		       (struct named){ AT_FDCWD, passed.second }, 0);
}

/* long renameat(int olddfd, const char *oldname, int newdfd, const char *newname) */
SEC("tp/syscalls/sys_exit_renameat")
int exit_renameat(struct trace_event_raw_sys_exit *context)
{
	struct arguments passed;

	read_arguments(&passed);
	return renamed(context->ret, (struct named){ passed.first, passed.second },
		       (struct named){ passed.third, passed.fourth }, 0);
}

/* long renameat2(int olddfd, const char *oldname, int newdfd, const char *newname, unsigned int flags) */
SEC("tp/syscalls/sys_exit_renameat2")
int exit_renameat2(struct trace_event_raw_sys_exit *context)
{
	struct arguments passed;

	read_arguments(&passed);
	return renamed(context->ret, (struct named){ passed.first, passed.second },
		       (struct named){ passed.third, passed.fourth }, passed.fifth);
}

static __always_inline int linked(long result, struct named target, struct named link, __u32 flags)
{
	struct link_event *event = emit_reserve(EVENT_LINK, sizeof(*event));
	bool absolute;

	if (!event)
		return 0;
	event->event.result = result;
	event->flags = flags;
	event->unverified = 1;
	absolute = append_target_at(event, &event->target, target, flags);
	append_next_target(event, &event->link, link, &event->target, target.folder, absolute);
	emit_submit(event, EVENT_LINK);
	return 0;
}

/* long link(const char *oldname, const char *newname) */
SEC("tp/syscalls/sys_exit_link")
int exit_link(struct trace_event_raw_sys_exit *context)
{
	struct arguments passed;

	read_arguments(&passed);
	return linked(context->ret, (struct named){ AT_FDCWD, passed.first },
		      (struct named){ AT_FDCWD, passed.second }, 0);
}

/* long linkat(int olddfd, const char *oldname, int newdfd, const char *newname, int flags) */
SEC("tp/syscalls/sys_exit_linkat")
int exit_linkat(struct trace_event_raw_sys_exit *context)
{
	struct arguments passed;

	read_arguments(&passed);
	return linked(context->ret, (struct named){ passed.first, passed.second },
		      (struct named){ passed.third, passed.fourth }, passed.fifth);
}

static __always_inline int symlinked(long result, __u64 target, struct named link)
{
	struct symlink_event *event = emit_reserve(EVENT_SYMLINK, sizeof(*event));

	if (!event)
		return 0;
	event->event.result = result;
	event->unverified = 1;
	append_string(event, &event->target, (void *)target, PATH_BYTES, true);
	append_passed_target(event, &event->link, link);
	emit_submit(event, EVENT_SYMLINK);
	return 0;
}

/* long symlink(const char *old, const char *new) */
SEC("tp/syscalls/sys_exit_symlink")
int exit_symlink(struct trace_event_raw_sys_exit *context)
{
	struct arguments passed;

	read_arguments(&passed);
	return symlinked(context->ret, passed.first, (struct named){ AT_FDCWD, passed.second });
}

/* long symlinkat(const char *oldname, int newdfd, const char *newname) */
SEC("tp/syscalls/sys_exit_symlinkat")
int exit_symlinkat(struct trace_event_raw_sys_exit *context)
{
	struct arguments passed;

	read_arguments(&passed);
	return symlinked(context->ret, passed.first, (struct named){ passed.second, passed.third });
}

static __always_inline int unlinked(long result, struct named file, __u32 flags)
{
	struct unlink_event *event = emit_reserve(EVENT_UNLINK, sizeof(*event));

	if (!event)
		return 0;
	event->event.result = result;
	event->flags = flags;
	event->unverified = 1;
	append_passed_target(event, &event->file, file);
	emit_submit(event, EVENT_UNLINK);
	return 0;
}

/* long unlink(const char *pathname) */
SEC("tp/syscalls/sys_exit_unlink")
int exit_unlink(struct trace_event_raw_sys_exit *context)
{
	struct arguments passed;

	read_arguments(&passed);
	return unlinked(context->ret, (struct named){ AT_FDCWD, passed.first }, 0);
}

/* long unlinkat(int dfd, const char *pathname, int flag) */
SEC("tp/syscalls/sys_exit_unlinkat")
int exit_unlinkat(struct trace_event_raw_sys_exit *context)
{
	struct arguments passed;

	read_arguments(&passed);
	return unlinked(context->ret, (struct named){ passed.first, passed.second }, passed.third);
}

/* long rmdir(const char *pathname) */
SEC("tp/syscalls/sys_exit_rmdir")
int exit_rmdir(struct trace_event_raw_sys_exit *context)
{
	struct arguments passed;

	read_arguments(&passed);
	return unlinked(context->ret, (struct named){ AT_FDCWD, passed.first }, AT_REMOVEDIR);
}

static __always_inline struct chmod_event *reserve_chmod(long result, __u32 mode)
{
	struct chmod_event *event = emit_reserve(EVENT_CHMOD, sizeof(*event));

	if (!event)
		return NULL;
	event->event.result = result;
	event->mode = mode & MODE_BITS;
	return event;
}

static __always_inline int changed_mode(long result, struct named file, __u32 mode, __u32 flags)
{
	struct chmod_event *event = reserve_chmod(result, mode);

	if (!event)
		return 0;
	event->unverified = 1;
	append_target_at(event, &event->file, file, flags);
	emit_submit(event, EVENT_CHMOD);
	return 0;
}

/* long chmod(const char *filename, umode_t mode) */
SEC("tp/syscalls/sys_exit_chmod")
int exit_chmod(struct trace_event_raw_sys_exit *context)
{
	struct arguments passed;

	read_arguments(&passed);
	return changed_mode(context->ret, (struct named){ AT_FDCWD, passed.first }, passed.second,
			    0);
}

/* long fchmodat(int dfd, const char *filename, umode_t mode) */
SEC("tp/syscalls/sys_exit_fchmodat")
int exit_fchmodat(struct trace_event_raw_sys_exit *context)
{
	struct arguments passed;

	read_arguments(&passed);
	return changed_mode(context->ret, (struct named){ passed.first, passed.second },
			    passed.third, 0);
}

/* long fchmodat2(int dfd, const char *filename, umode_t mode, unsigned int flags) */
SEC("tp/syscalls/sys_exit_fchmodat2")
int exit_fchmodat2(struct trace_event_raw_sys_exit *context)
{
	struct arguments passed;

	read_arguments(&passed);
	return changed_mode(context->ret, (struct named){ passed.first, passed.second },
			    passed.third, passed.fourth);
}

/* long fchmod(unsigned int fd, umode_t mode) */
SEC("tp/syscalls/sys_exit_fchmod")
int exit_fchmod(struct trace_event_raw_sys_exit *context)
{
	struct chmod_event *event;
	struct arguments passed;

	read_arguments(&passed);
	event = reserve_chmod(context->ret, passed.second);
	if (!event)
		return 0;
	append_path_of_fd(event, &event->file.path, passed.first);
	emit_submit(event, EVENT_CHMOD);
	return 0;
}

static __always_inline struct chown_event *reserve_chown(long result, __u32 uid, __u32 gid)
{
	struct chown_event *event = emit_reserve(EVENT_CHOWN, sizeof(*event));

	if (!event)
		return NULL;
	event->event.result = result;
	event->uid = uid;
	event->gid = gid;
	return event;
}

static __always_inline int changed_owner(long result, struct named file, __u32 uid, __u32 gid,
					 __u32 flags)
{
	struct chown_event *event = reserve_chown(result, uid, gid);

	if (!event)
		return 0;
	event->unverified = 1;
	append_target_at(event, &event->file, file, flags);
	emit_submit(event, EVENT_CHOWN);
	return 0;
}

/* long chown(const char *filename, uid_t user, gid_t group) */
SEC("tp/syscalls/sys_exit_chown")
int exit_chown(struct trace_event_raw_sys_exit *context)
{
	struct arguments passed;

	read_arguments(&passed);
	return changed_owner(context->ret, (struct named){ AT_FDCWD, passed.first }, passed.second,
			     passed.third, 0);
}

/* long lchown(const char *filename, uid_t user, gid_t group) */
SEC("tp/syscalls/sys_exit_lchown")
int exit_lchown(struct trace_event_raw_sys_exit *context)
{
	struct arguments passed;

	read_arguments(&passed);
	return changed_owner(context->ret, (struct named){ AT_FDCWD, passed.first }, passed.second,
			     passed.third, 0);
}

/* long fchownat(int dfd, const char *filename, uid_t user, gid_t group, int flag) */
SEC("tp/syscalls/sys_exit_fchownat")
int exit_fchownat(struct trace_event_raw_sys_exit *context)
{
	struct arguments passed;

	read_arguments(&passed);
	return changed_owner(context->ret, (struct named){ passed.first, passed.second },
			     passed.third, passed.fourth, passed.fifth);
}

/* long fchown(unsigned int fd, uid_t user, gid_t group) */
SEC("tp/syscalls/sys_exit_fchown")
int exit_fchown(struct trace_event_raw_sys_exit *context)
{
	struct chown_event *event;
	struct arguments passed;

	read_arguments(&passed);
	event = reserve_chown(context->ret, passed.second, passed.third);
	if (!event)
		return 0;
	append_path_of_fd(event, &event->file.path, passed.first);
	emit_submit(event, EVENT_CHOWN);
	return 0;
}
