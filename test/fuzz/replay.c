/* SPDX-License-Identifier: BSD-3-Clause */
/* main() of a fuzz target without libFuzzer: each input of a folder, or each file, is a test. */
#include <dirent.h>
#include <sys/stat.h>

#include "fuzz.h"

static unsigned done;

static void replay(const char *path, const char *name)
{
	FILE *f = fopen(path, "rbe");
	static uint8_t data[1 << 20];
	size_t size;

	if (!f) {
		perror(path);
		exit(2);
	}
	size = fread(data, 1, sizeof(data), f);
	fclose(f);
	fprintf(stderr, "# %s\n", path);
	LLVMFuzzerTestOneInput(data, size);
	printf("ok %u - %s\n", ++done, name);
}

static int is_file(const struct dirent *e)
{
	return e->d_name[0] != '.';
}

static void replay_folder(const char *folder)
{
	struct dirent **e;
	int n = scandir(folder, &e, is_file, alphasort);

	if (n < 0) {
		perror(folder);
		exit(2);
	}
	for (int i = 0; i < n; i++) {
		char path[4096];

		snprintf(path, sizeof(path), "%s/%s", folder, e[i]->d_name);
		replay(path, e[i]->d_name);
		free(e[i]);
	}
	free(e);
}

int main(int argc, char **argv)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	for (int i = 1; i < argc; i++) {
		struct stat st;

		if (stat(argv[i], &st) == 0 && S_ISDIR(st.st_mode))
			replay_folder(argv[i]);
		else
			replay(argv[i], argv[i]);
	}
	printf("1..%u\n", done);
	return done == 0;
}
