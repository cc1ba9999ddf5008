// SPDX-License-Identifier: Apache-2.0
/*
 * sleepers COUNT RATE [FOLDER]: so many processes, each of which runs a program and then does
 * nothing until the end of the input, when they end one by one. With FOLDER the first is put
 * into its cgroup 0…00, the next into 0…01, and so on.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>
#include "pace.h"

static void enter(const char *folder, long number)
{
	char path[512];
	int fd;

	snprintf(path, sizeof(path), "%s/%064lx/cgroup.procs", folder, number);
	fd = open(path, O_WRONLY);
	if (fd < 0 || write(fd, "0", 1) != 1) {
		perror(path);
		_exit(1);
	}
	close(fd);
}

static void sleeper(const char *own, const char *folder, long number)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (folder)
		enter(folder, number);
	execl(own, own, (char *)NULL);
	_exit(1);
}

int main(int argc, char **argv)
{
	struct pace pace;
	long count, number;
	pid_t *pids;
	char end;

	if (argc < 3) {
		pause();
		return 0;
	}
	count = strtol(argv[1], NULL, 10);
	pids = calloc(count, sizeof(*pids));
	if (!pids)
		return 1;
	pace = pace_start(strtod(argv[2], NULL), 0);
	for (number = 0; number < count && pace_next(&pace, number, 1); number++) {
		pid_t pid = fork();

		if (pid < 0) {
			perror("fork");
			return 1;
		}
		pids[number] = pid;
		if (!pid)
			sleeper(argv[0], argc > 3 ? argv[3] : NULL, number);
	}
	puts("made");
	fflush(stdout);
	if (read(STDIN_FILENO, &end, 1))
		return 1;
	pace = pace_start(strtod(argv[2], NULL), 0);
	for (number = 0; number < count && pace_next(&pace, number, 1); number++)
		kill(pids[number], SIGKILL);
	return 0;
}
