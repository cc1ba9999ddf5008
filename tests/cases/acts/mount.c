// SPDX-License-Identifier: Apache-2.0
/* Mounts and roots, in a mount namespace of their own. */
#include "act.h"
#include <fcntl.h>
#include <sched.h>
#include <stdint.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#ifndef SYS_mount_setattr
#define SYS_mount_setattr 442
#endif

#define ATTRIBUTE_READ_ONLY 1
#define ATTRIBUTE_NO_SUID 2
#define ATTRIBUTE_NO_DEVICES 4
#define CREATE 6
#define COPY 1
#define FROM_OPEN 4
#define TO_OPEN 0x40
/* Taken from callers since before Linux 2.4. */
#define MAGIC 0xC0ED0000

/* Nothing of what is done from now on is seen outside, or stays. */
static void apart(void)
{
	must("unshare", unshare(CLONE_NEWNS));
	must("private", mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL));
	must("mkdir", mkdir("at", 0755));
}

static void mounted(void)
{
	apart();
	must("mount", mount("something", "at", "tmpfs", MS_NOSUID, NULL));
}

static int act_mount(char **a)
{
	apart();
	result(syscall(SYS_mount, "something", a[0], "tmpfs", MS_NOSUID | MS_NODEV, NULL));
	return 0;
}

static int act_mount_of_no_type(char **a)
{
	apart();
	result(syscall(SYS_mount, "something", a[0], "no such type", MAGIC | MS_RDONLY, NULL));
	return 0;
}

/* By a name that starts at the root, which is another one. */
static int act_mount_in_root(char **a)
{
	apart();
	must("chroot", chroot("."));
	result(syscall(SYS_mount, "something", a[0], "tmpfs", 0, NULL));
	return 0;
}

/* Pointers that lead nowhere. */
static int act_mount_unmapped(char **a)
{
	apart();
	result(syscall(SYS_mount, (char *)16, a[0], (char *)16, 0, NULL));
	return 0;
}

static int act_private(char **a)
{
	(void)a;
	must("unshare", unshare(CLONE_NEWNS));
	result(syscall(SYS_mount, NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL));
	return 0;
}

static int act_bind(char **a)
{
	apart();
	must("mkdir", mkdir("from", 0755));
	result(syscall(SYS_mount, "from", a[0], NULL, MS_BIND, NULL));
	return 0;
}

static int act_remount(char **a)
{
	mounted();
	result(syscall(SYS_mount, NULL, a[0], NULL, MS_REMOUNT | MS_RDONLY, NULL));
	return 0;
}

static int act_moved(char **a)
{
	mounted();
	must("mkdir", mkdir(a[0], 0755));
	result(syscall(SYS_mount, "at", a[0], NULL, MS_MOVE, NULL));
	return 0;
}

/* The descriptor of a mount that is nowhere. */
static int detached(void)
{
	int context = must("fsopen", syscall(SYS_fsopen, "tmpfs", 0));

	must("fsconfig", syscall(SYS_fsconfig, context, 1, "source", "something", 0));
	must("fsconfig", syscall(SYS_fsconfig, context, CREATE, NULL, NULL, 0));
	return must("fsmount", syscall(SYS_fsmount, context, 0, 0));
}

static int act_move_mount(char **a)
{
	apart();
	must("symlink", symlink("at", "link"));
	result(syscall(SYS_move_mount, detached(), "", AT_FDCWD, a[0], FROM_OPEN));
	return 0;
}

static int act_move_mount_named(char **a)
{
	mounted();
	must("mkdir", mkdir(a[1], 0755));
	result(syscall(SYS_move_mount, AT_FDCWD, a[0], must("open", open(".", O_PATH)), a[1], 0));
	return 0;
}

/* To a descriptor, but one of a file. */
static int act_move_mount_to_open(char **a)
{
	int file = must("file", open(a[0], O_CREAT | O_WRONLY, 0644));

	apart();
	result(syscall(SYS_move_mount, detached(), "", file, "", FROM_OPEN | TO_OPEN));
	return 0;
}

static int act_move_mount_copy(char **a)
{
	mounted();
	must("mkdir", mkdir(a[0], 0755));
	result(syscall(SYS_move_mount,
		       must("open_tree", syscall(SYS_open_tree, AT_FDCWD, "at", COPY)), "",
		       AT_FDCWD, a[0], FROM_OPEN));
	return 0;
}

static int act_move_mount_closed(char **a)
{
	apart();
	result(syscall(SYS_move_mount, 99, "", AT_FDCWD, a[0], FROM_OPEN));
	return 0;
}

static int act_mount_setattr(char **a)
{
	uint64_t attributes[4] = { ATTRIBUTE_READ_ONLY, ATTRIBUTE_NO_SUID };

	mounted();
	result(syscall(SYS_mount_setattr, AT_FDCWD, a[0], 0, attributes, sizeof(attributes)));
	return 0;
}

/* By the descriptor of the mount and no name. */
static int act_mount_setattr_open(char **a)
{
	uint64_t attributes[4] = { ATTRIBUTE_READ_ONLY };

	mounted();
	result(syscall(SYS_mount_setattr, must("open", open(a[0], O_PATH)), "", AT_EMPTY_PATH,
		       attributes, sizeof(attributes)));
	return 0;
}

static int act_mount_setattr_detached(char **a)
{
	uint64_t attributes[4] = { ATTRIBUTE_NO_DEVICES };

	(void)a;
	result(syscall(SYS_mount_setattr, detached(), "", AT_EMPTY_PATH, attributes,
		       sizeof(attributes)));
	return 0;
}

static int act_umount(char **a)
{
	mounted();
	result(syscall(SYS_umount2, a[0], MNT_DETACH));
	return 0;
}

/* From inside. */
static int act_umount_itself(char **a)
{
	mounted();
	must("chdir", chdir(a[0]));
	result(syscall(SYS_umount2, ".", MNT_DETACH));
	return 0;
}

static int act_pivot_root(char **a)
{
	char cwd[PATH_MAX];
	char root[2 * PATH_MAX];
	char old[2 * PATH_MAX];

	mounted();
	must("mkdir", mkdir("at/old", 0755));
	/* The working directory is another one afterwards. */
	must("getcwd", getcwd(cwd, sizeof(cwd)) ? 0 : -1);
	snprintf(root, sizeof(root), "%s/%s", cwd, a[0]);
	snprintf(old, sizeof(old), "%s/%s", cwd, a[1]);
	result(syscall(SYS_pivot_root, root, old));
	return 0;
}

/* As container runtimes do: the old root comes to lie over the new one. */
static int act_pivot_root_here(char **a)
{
	mounted();
	must("chdir", chdir(a[0]));
	result(syscall(SYS_pivot_root, ".", "."));
	return 0;
}

/* Where all of cgroup v2 is mounted. */
static int find_cgroups(char *where)
{
	char line[PATH_MAX];
	int found = 0;
	FILE *file = fopen("/proc/mounts", "r");

	while (file && !found && fgets(line, sizeof(line), file)) {
		char type[64];

		found = sscanf(line, "%*s %255s %63s", where, type) == 2 &&
			!strcmp(type, "cgroup2");
	}
	if (file)
		fclose(file);
	return found;
}

static int act_make_cgroup(char **a)
{
	struct stat facts;
	char path[PATH_MAX];
	char where[256];

	(void)a;
	if (!find_cgroups(where)) {
		errno = ENOSYS;
		return result(-1), 0;
	}
	snprintf(path, sizeof(path), "%s/nodeagent-act-%d", where, getpid());
	must("mkdir", mkdir(path, 0755));
	must("stat", stat(path, &facts));
	said("id", facts.st_ino);
	rmdir(path);
	return 0;
}

static void enter_cgroup(const char *cgroup)
{
	char path[PATH_MAX + 16];
	int fd;

	snprintf(path, sizeof(path), "%s/cgroup.procs", cgroup);
	fd = must("cgroup.procs", open(path, O_WRONLY));
	must("enter", write(fd, "0", 1));
	close(fd);
}

/* chroot_in_cgroup PATH: below the root of version 2, and gone in the end. */
static int act_chroot_in_cgroup(char **a)
{
	char path[PATH_MAX];
	char where[256];
	char *end;

	if (!find_cgroups(where)) {
		errno = ENOSYS;
		return result(-1), 0;
	}
	snprintf(path, sizeof(path), "%s/%s/", where, a[0]);
	for (end = strchr(path + strlen(where) + 1, '/'); end; end = strchr(end + 1, '/')) {
		*end = 0;
		if (mkdir(path, 0755) && errno != EEXIST)
			must("mkdir", -1);
		*end = '/';
	}
	enter_cgroup(path);
	result(syscall(SYS_chroot, "/nothing"));
	enter_cgroup(where);
	/* Others may be in those above it. */
	while ((end = strrchr(path, '/')) > path + strlen(where)) {
		*end = 0;
		rmdir(path);
	}
	/* Its event waits until it is known what the cgroup is. */
	usleep(300000);
	return 0;
}

static int act_chroot(char **a)
{
	must("mkdir", mkdir("root", 0755));
	must("symlink", symlink("root", "link"));
	result(syscall(SYS_chroot, a[0]));
	return 0;
}

static const struct act acts[] = {
	{ "mount", act_mount },
	{ "mount_of_no_type", act_mount_of_no_type },
	{ "mount_in_root", act_mount_in_root },
	{ "mount_unmapped", act_mount_unmapped },
	{ "private", act_private },
	{ "bind", act_bind },
	{ "moved", act_moved },
	{ "remount", act_remount },
	{ "move_mount", act_move_mount },
	{ "move_mount_named", act_move_mount_named },
	{ "move_mount_to_open", act_move_mount_to_open },
	{ "move_mount_copy", act_move_mount_copy },
	{ "move_mount_closed", act_move_mount_closed },
	{ "mount_setattr", act_mount_setattr },
	{ "mount_setattr_open", act_mount_setattr_open },
	{ "mount_setattr_detached", act_mount_setattr_detached },
	{ "umount", act_umount },
	{ "umount_itself", act_umount_itself },
	{ "pivot_root", act_pivot_root },
	{ "pivot_root_here", act_pivot_root_here },
	{ "make_cgroup", act_make_cgroup },
	{ "chroot", act_chroot },
	{ "chroot_in_cgroup", act_chroot_in_cgroup },
	{ NULL, NULL },
};

int main(int argc, char **argv)
{
	return act_main(argc, argv, acts);
}
