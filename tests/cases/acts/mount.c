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
#define CREATE 6

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

static int act_move_mount(char **a)
{
	int context;
	int tree;

	apart();
	context = must("fsopen", syscall(SYS_fsopen, "tmpfs", 0));
	must("fsconfig", syscall(SYS_fsconfig, context, 1, "source", "something", 0));
	must("fsconfig", syscall(SYS_fsconfig, context, CREATE, NULL, NULL, 0));
	tree = must("fsmount", syscall(SYS_fsmount, context, 0, 0));
	/* MOVE_MOUNT_F_EMPTY_PATH */
	result(syscall(SYS_move_mount, tree, "", AT_FDCWD, a[0], 4));
	return 0;
}

static int act_mount_setattr(char **a)
{
	uint64_t attributes[4] = { ATTRIBUTE_READ_ONLY };

	mounted();
	result(syscall(SYS_mount_setattr, AT_FDCWD, a[0], 0, attributes, sizeof(attributes)));
	return 0;
}

static int act_umount(char **a)
{
	mounted();
	result(syscall(SYS_umount2, a[0], MNT_DETACH));
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

static int act_chroot(char **a)
{
	must("mkdir", mkdir("root", 0755));
	must("symlink", symlink("root", "link"));
	result(syscall(SYS_chroot, a[0]));
	return 0;
}

static const struct act acts[] = {
	{ "mount", act_mount },
	{ "bind", act_bind },
	{ "remount", act_remount },
	{ "move_mount", act_move_mount },
	{ "mount_setattr", act_mount_setattr },
	{ "umount", act_umount },
	{ "pivot_root", act_pivot_root },
	{ "chroot", act_chroot },
	{ NULL, NULL },
};

int main(int argc, char **argv)
{
	return act_main(argc, argv, acts);
}
