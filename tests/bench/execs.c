// SPDX-License-Identifier: Apache-2.0
// execs PROGRAM RATE SECONDS OPERATIONS
//
// Forks, runs PROGRAM without arguments and waits for its end, RATE times a second (0: flat
// out), for SECONDS (0: no limit) or OPERATIONS (0: no limit), whichever ends first.
// Prints one line: operations done, seconds, CPU seconds of itself and its children.
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>
#include "pace.h"

int main(int count, char **arguments)
{
	if (count != 5) {
		fprintf(stderr, "usage: execs PROGRAM RATE SECONDS OPERATIONS\n");
		return 2;
	}
	char *child[] = { arguments[1], NULL };
	char *environment[] = { NULL };
	long long limit = atoll(arguments[4]);
	struct pace pace = pace_start(atof(arguments[2]), atof(arguments[3]));
	long long done = 0;

	while ((!limit || done < limit) && pace_next(&pace, done, 1)) {
		pid_t pid = fork();
		int status;

		if (pid < 0) {
			perror("fork");
			return 1;
		}
		if (!pid) {
			execve(child[0], child, environment);
			_exit(127);
		}
		if (waitpid(pid, &status, 0) < 0 || status) {
			fprintf(stderr, "%s failed\n", child[0]);
			return 1;
		}
		done++;
	}
	pace_report(&pace, done);
	return 0;
}
