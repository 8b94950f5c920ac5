/* The directory of runbooks: what is listed, what can be read, what a name may not reach. */
#include <jansson.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent_int.h"
#include "base/err.h"
#include "check.h"

static char dir[] = "/tmp/lbbooks.XXXXXX";
static struct sa_config cfg;
static struct sa_agent agent = {.cfg = &cfg};

static void put(const char *name, const char *text, size_t len)
{
	char path[200];
	FILE *f;

	(void)snprintf(path, sizeof(path), "%s/%s", dir, name);
	f = fopen(path, "wb");
	assert_non_null(f);
	assert_int_equal(fwrite(text, 1, len, f), len);
	assert_int_equal(fclose(f), 0);
}

static int set_up(void **state)
{
	char *large = calloc(1, 300u << 10), path[200];

	(void)state;
	if (mkdtemp(dir) == NULL || large == NULL)
		return -1;
	(void)snprintf(cfg.runbooks, sizeof(cfg.runbooks), "%s/books", dir);
	(void)snprintf(path, sizeof(path), "%s/books", dir);
	if (mkdir(path, 0700) != 0)
		return -1;
	memset(large, 'a', 300u << 10);
	put("books/b.yaml", "b: 1\n", 5);
	put("books/a.yaml", "a: 1\n", 5);
	put("books/.hidden.yaml", "", 0);
	put("books/notes.txt", "", 0);
	put("books/.yaml", "", 0);
	put("books/large.yaml", large, 300u << 10);
	put("books/latin.yaml", "n: \xe9\n", 5);
	put("secret.yaml", "s: 1\n", 5);
	free(large);
	(void)snprintf(path, sizeof(path), "%s/books/fifo.yaml", dir);
	return mkfifo(path, 0600);
}

static int tear_down(void **state)
{
	char command[100];
	static const char *const files[] = {
		"books/b.yaml",     "books/a.yaml",    "books/.hidden.yaml",
		"books/notes.txt",  "books/.yaml",     "books/large.yaml",
		"books/latin.yaml", "books/fifo.yaml", "secret.yaml"};

	(void)state;
	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
		(void)snprintf(command, sizeof(command), "%s/%s", dir, files[i]);
		(void)unlink(command);
	}
	(void)rmdir(cfg.runbooks);
	return rmdir(dir);
}

static void test_list(void **state)
{
	json_t *o = sa_books_json(&agent), *list = json_object_get(o, "runbooks");
	static const char *const names[] = {"a", "b", "large", "latin"};

	(void)state;
	assert_int_equal(json_array_size(list), 4);
	for (size_t i = 0; i < 4; i++)
		assert_string_equal(
			json_string_value(json_object_get(json_array_get(list, i), "name")),
			names[i]);
	assert_string_equal(json_string_value(json_object_get(o, "directory")), cfg.runbooks);
	json_decref(o);
}

static void test_no_directory(void **state)
{
	struct sa_config none = {.runbooks = "/nonexistent/lifeboat"};
	const struct sa_agent a = {.cfg = &none};
	json_t *o = sa_books_json(&a);

	(void)state;
	assert_int_equal(json_array_size(json_object_get(o, "runbooks")), 0);
	json_decref(o);
}

static void test_read(void **state)
{
	struct lb_err err = {0};
	json_t *o = NULL;

	(void)state;
	assert_int_equal(sa_book_read(&agent, "a", &o, &err), 0);
	assert_string_equal(json_string_value(json_object_get(o, "text")), "a: 1\n");
	assert_string_equal(json_string_value(json_object_get(o, "name")), "a");
	json_decref(o);
}

static void refused(const char *name, int code)
{
	struct lb_err err = {0};
	json_t *o = NULL;

	assert_int_equal(sa_book_read(&agent, name, &o, &err), code);
	assert_null(o);
	assert_true(err.msg[0] != '\0');
}

static void test_refused(void **state)
{
	char long_name[400];

	(void)state;
	memset(long_name, 'a', sizeof(long_name) - 1);
	long_name[sizeof(long_name) - 1] = '\0';
	refused("../secret", LB_ENOTFOUND);
	refused("../books/a", LB_ENOTFOUND);
	refused("", LB_ENOTFOUND);
	refused(".hidden", LB_ENOTFOUND);
	refused("c", LB_ENOTFOUND);
	refused(long_name, LB_ENOTFOUND);
	refused("large", LB_EINPUT);
	refused("latin", LB_EINPUT);
	refused("fifo", LB_EINPUT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_list),
		cmocka_unit_test(test_no_directory),
		cmocka_unit_test(test_read),
		cmocka_unit_test(test_refused),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
