// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Names of files, their permissions and owners: seen when the call returns.
 *
 * No kernel object is left of what a name led to, so it is told as it was passed.
 */
#include <vmlinux.h>
#include "call.h"
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
AFTER(rename, sys_rename)
{
	return renamed(result, (struct named){ AT_FDCWD, passed->first },
		       (struct named){ AT_FDCWD, passed->second }, 0);
}

/* long renameat(int olddfd, const char *oldname, int newdfd, const char *newname) */
AFTER(renameat, sys_renameat)
{
	return renamed(result, (struct named){ passed->first, passed->second },
		       (struct named){ passed->third, passed->fourth }, 0);
}

/* long renameat2(int olddfd, const char *oldname, int newdfd, const char *newname, unsigned int flags) */
AFTER(renameat2, sys_renameat2)
{
	return renamed(result, (struct named){ passed->first, passed->second },
		       (struct named){ passed->third, passed->fourth }, passed->fifth);
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
AFTER(link, sys_link)
{
	return linked(result, (struct named){ AT_FDCWD, passed->first },
		      (struct named){ AT_FDCWD, passed->second }, 0);
}

/* long linkat(int olddfd, const char *oldname, int newdfd, const char *newname, int flags) */
AFTER(linkat, sys_linkat)
{
	return linked(result, (struct named){ passed->first, passed->second },
		      (struct named){ passed->third, passed->fourth }, passed->fifth);
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
AFTER(symlink, sys_symlink)
{
	return symlinked(result, passed->first, (struct named){ AT_FDCWD, passed->second });
}

/* long symlinkat(const char *oldname, int newdfd, const char *newname) */
AFTER(symlinkat, sys_symlinkat)
{
	return symlinked(result, passed->first, (struct named){ passed->second, passed->third });
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
AFTER(unlink, sys_unlink)
{
	return unlinked(result, (struct named){ AT_FDCWD, passed->first }, 0);
}

/* long unlinkat(int dfd, const char *pathname, int flag) */
AFTER(unlinkat, sys_unlinkat)
{
	return unlinked(result, (struct named){ passed->first, passed->second }, passed->third);
}

/* long rmdir(const char *pathname) */
AFTER(rmdir, sys_rmdir)
{
	return unlinked(result, (struct named){ AT_FDCWD, passed->first }, AT_REMOVEDIR);
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
AFTER(chmod, sys_chmod)
{
	return changed_mode(result, (struct named){ AT_FDCWD, passed->first }, passed->second, 0);
}

/* long fchmodat(int dfd, const char *filename, umode_t mode) */
AFTER(fchmodat, sys_fchmodat)
{
	return changed_mode(result, (struct named){ passed->first, passed->second }, passed->third,
			    0);
}

/* long fchmodat2(int dfd, const char *filename, umode_t mode, unsigned int flags) */
AFTER(fchmodat2, sys_fchmodat2)
{
	return changed_mode(result, (struct named){ passed->first, passed->second }, passed->third,
			    passed->fourth);
}

/* long fchmod(unsigned int fd, umode_t mode) */
AFTER(fchmod, sys_fchmod)
{
	struct chmod_event *event = reserve_chmod(result, passed->second);

	if (!event)
		return 0;
	append_path_of_fd(event, &event->file.path, passed->first);
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
AFTER(chown, sys_chown)
{
	return changed_owner(result, (struct named){ AT_FDCWD, passed->first }, passed->second,
			     passed->third, 0);
}

/* Ids of 16 bits, as the first calls for them had: the highest one means all of them. */
static __always_inline __u32 id_of_16_bits(__u64 id)
{
	return (__u16)id == 0xffff ? ~0U : (__u16)id;
}

static __always_inline int changed_owner_16(long result, const struct arguments *passed)
{
	return changed_owner(result, (struct named){ AT_FDCWD, passed->first },
			     id_of_16_bits(passed->second), id_of_16_bits(passed->third), 0);
}

/* long chown16(const char *filename, old_uid_t user, old_gid_t group) */
AFTER_32(chown16, sys_chown16)
{
	return changed_owner_16(result, passed);
}

/* long lchown16(const char *filename, old_uid_t user, old_gid_t group) */
AFTER_32(lchown16, sys_lchown16)
{
	return changed_owner_16(result, passed);
}

/* long lchown(const char *filename, uid_t user, gid_t group) */
AFTER(lchown, sys_lchown)
{
	return changed_owner(result, (struct named){ AT_FDCWD, passed->first }, passed->second,
			     passed->third, 0);
}

/* long fchownat(int dfd, const char *filename, uid_t user, gid_t group, int flag) */
AFTER(fchownat, sys_fchownat)
{
	return changed_owner(result, (struct named){ passed->first, passed->second }, passed->third,
			     passed->fourth, passed->fifth);
}

static __always_inline int changed_owner_of_fd(long result, int fd, __u32 uid, __u32 gid)
{
	struct chown_event *event = reserve_chown(result, uid, gid);

	if (!event)
		return 0;
	append_path_of_fd(event, &event->file.path, fd);
	emit_submit(event, EVENT_CHOWN);
	return 0;
}

/* long fchown(unsigned int fd, uid_t user, gid_t group) */
AFTER(fchown, sys_fchown)
{
	return changed_owner_of_fd(result, passed->first, passed->second, passed->third);
}

/* long fchown16(unsigned int fd, old_uid_t user, old_gid_t group) */
AFTER_32(fchown16, sys_fchown16)
{
	return changed_owner_of_fd(result, passed->first, id_of_16_bits(passed->second),
				   id_of_16_bits(passed->third));
}
