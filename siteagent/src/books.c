/*
 * The directory of runbooks: what there is to run, and one text. Only names and times are looked at
 * for the list, so that it stays cheap; a text is linted when somebody asks for that.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent_int.h"
#include "runbooks/lang.h"

#define BOOKS_MAX 500u
#define ENDING    ".yaml"

/* "tokyo-to-osaka" of "tokyo-to-osaka.yaml"; false: not the name of a runbook. */
static bool book_name(char out[RB_NAME_BYTES], const char *file)
{
	size_t len = strlen(file), end = strlen(ENDING);

	if (file[0] == '.' || len <= end || len - end >= RB_NAME_BYTES ||
	    strcmp(file + len - end, ENDING) != 0)
		return false;
	(void)snprintf(out, RB_NAME_BYTES, "%.*s", (int)(len - end), file);
	return true;
}

static json_t *book_json(const char *dir, const char *name, const struct stat *st)
{
	char path[SA_PATH_BYTES + RB_NAME_BYTES + 8];
	json_t *o;

	(void)snprintf(path, sizeof(path), "%s/%s" ENDING, dir, name);
	o = json_pack("{s:s, s:s, s:I, s:I}", "name", name, "path", path, "size_bytes",
		      (json_int_t)st->st_size, "changed_wall_ns",
		      (json_int_t)st->st_mtim.tv_sec * 1000000000 + st->st_mtim.tv_nsec);
	return o; /* NULL: a name that is not UTF-8, which nobody could ask for */
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

struct json_t *sa_books_json(const struct sa_agent *a)
{
	const char *dir = a->cfg->runbooks;
	json_t *list = json_array();
	struct dirent **entry = NULL;
	int n = scandir(dir, &entry, NULL, by_name),
	    fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	char name[RB_NAME_BYTES];
	struct stat st = {.st_size = 0};

	for (int i = 0; i < n; i++) {
		if (fd >= 0 && json_array_size(list) < BOOKS_MAX &&
		    book_name(name, entry[i]->d_name) &&
		    fstatat(fd, entry[i]->d_name, &st, 0) == 0 && S_ISREG(st.st_mode))
			(void)json_array_append_new(list, book_json(dir, name, &st));
		free(entry[i]);
	}
	free(entry);
	if (fd >= 0)
		(void)close(fd);
	return json_pack("{s:o, s:s}", "runbooks", list, "directory", dir);
}

static int read_book(FILE *f, char **text, const char *path, struct lb_err *err)
{
	size_t n;

	*text = malloc(RB_MAX_SOURCE + 2);
	if (*text == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "runbook %s", path);
	n = fread(*text, 1, RB_MAX_SOURCE + 1, f);
	(*text)[n] = '\0';
	if (ferror(f) != 0)
		return lb_err_set(err, LB_EIO, errno, "read %s", path);
	if (n > RB_MAX_SOURCE)
		return lb_err_set(err, LB_EINPUT, 0, "%s is larger than %u KiB", path,
				  RB_MAX_SOURCE >> 10);
	return 0;
}

/* A regular file only: a fifo there would hold us up. */
static int open_book(FILE **out, const char *path, struct stat *st, struct lb_err *err)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

	if (fd < 0)
		return lb_err_errno(err, errno, "open %s", path);
	if (fstat(fd, st) != 0 || !S_ISREG(st->st_mode)) {
		(void)close(fd);
		return lb_err_set(err, LB_EINPUT, 0, "%s is no regular file", path);
	}
	*out = fdopen(fd, "r");
	if (*out == NULL) {
		(void)close(fd);
		return lb_err_set(err, LB_ENOMEM, 0, "open %s", path);
	}
	return 0;
}

int sa_book_read(const struct sa_agent *a, const char *name, struct json_t **out,
		 struct lb_err *err)
{
	char path[SA_PATH_BYTES + RB_NAME_BYTES + 8], file[RB_NAME_BYTES + 8], plain[RB_NAME_BYTES];
	char *text = NULL;
	struct stat st = {.st_size = 0};
	FILE *f = NULL;
	int rc;

	(void)snprintf(file, sizeof(file), "%.*s" ENDING, (int)RB_NAME_BYTES, name);
	if (strchr(name, '/') != NULL || strlen(name) >= RB_NAME_BYTES || !book_name(plain, file))
		return lb_err_set(err, LB_ENOTFOUND, 0, "no runbook of that name");
	(void)snprintf(path, sizeof(path), "%s/%s", a->cfg->runbooks, file);
	rc = open_book(&f, path, &st, err);
	if (rc != 0)
		return rc;
	rc = read_book(f, &text, path, err);
	if (rc == 0) {
		*out = book_json(a->cfg->runbooks, name, &st);
		/* json_string() refuses what is not UTF-8 */
		if (*out == NULL || json_object_set_new(*out, "text", json_string(text)) != 0) {
			json_decref(*out);
			*out = NULL;
			rc = lb_err_set(err, LB_EINPUT, 0, "%s is not UTF-8", path);
		}
	}
	(void)fclose(f);
	free(text);
	return rc;
}
