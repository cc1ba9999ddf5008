// SPDX-License-Identifier: Apache-2.0
// opens FOLDER FILES RATE SECONDS OPERATIONS STEPS
//
// Opens and closes the files 0 … FILES-1 of FOLDER in turn, RATE times a second (0: flat
// out), for SECONDS (0: no limit) or OPERATIONS (0: no limit), whichever ends first. After
// each it computes for so many STEPS, like a compiler that works with what it has read.
// Prints one line: operations done, seconds, its own CPU seconds.
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include "pace.h"

// The clock is asked once in this many operations of a flat-out loop.
#define STRIDE 256

int main(int count, char **arguments)
{
	if (count != 7) {
		fprintf(stderr, "usage: opens FOLDER FILES RATE SECONDS OPERATIONS STEPS\n");
		return 2;
	}
	long files = atol(arguments[2]);
	long long limit = atoll(arguments[5]);
	struct pace pace = pace_start(atof(arguments[3]), atof(arguments[4]));
	long steps = atol(arguments[6]);
	volatile unsigned long long number = 1;
	long long done = 0;
	char name[32];
	int folder = open(arguments[1], O_PATH | O_DIRECTORY);

	if (folder < 0 || files < 1) {
		perror(arguments[1]);
		return 1;
	}
	while ((!limit || done < limit) && pace_next(&pace, done, STRIDE)) {
		snprintf(name, sizeof(name), "%lld", done % files);
		int fd = openat(folder, name, O_RDONLY);

		if (fd < 0) {
			perror(name);
			return 1;
		}
		close(fd);
		for (long step = 0; step < steps; step++)
			number = number * 6364136223846793005ULL + 1;
		done++;
	}
	pace_report(&pace, done);
	return 0;
}
