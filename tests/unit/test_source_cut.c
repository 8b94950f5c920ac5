/* The order of a cut over a group: all hold before one marks, all have marked before one resumes,
 * and what was begun is finished, whoever failed. The drivers are letters in a log. */
#include <string.h>

#include "base/err.h"
#include "check.h"
#include "siteagent/source.h"
#include "src_int.h"

struct fake {
	struct sa_source base;
	char name;
	char fails; /* the step that does */
};

static char said[128];

static void say(const struct sa_source *s, char what)
{
	const char text[] = {what, ((const struct fake *)s)->name, ' ', '\0'};

	assert_true(strlen(said) + sizeof(text) <= sizeof(said));
	strcat(said, text);
}

static int step(struct sa_source *s, char what, struct lb_err *err)
{
	say(s, what);
	return ((struct fake *)s)->fails == what ? lb_err_set(err, LB_ETIMEDOUT, 0, "%c", what) : 0;
}

static int hold(struct sa_source *s, uint64_t limit_ns, struct lb_err *err)
{
	assert_int_equal(limit_ns, 7);
	return step(s, 'H', err);
}

static int mark(struct sa_source *s, struct lb_err *err)
{
	return step(s, 'M', err);
}

static void resume(struct sa_source *s)
{
	say(s, 'R');
}

static void begin(struct sa_source *s, enum sa_source_step what, uint64_t limit_ns)
{
	(void)limit_ns;
	say(s, "hmr"[what]);
}

static int settle(struct sa_source *s, struct lb_err *err)
{
	return step(s, 'S', err);
}

static int alone(struct sa_source *s, uint64_t limit_ns, struct lb_err *err)
{
	assert_int_equal(limit_ns, 7);
	return step(s, 'A', err);
}

static void release(struct sa_source *s, bool kept, const struct lb_hash *point)
{
	(void)point;
	say(s, kept ? 'K' : 'D');
}

static const struct sa_source_ops all_ops = {
	.hold = hold,
	.mark = mark,
	.resume = resume,
	.begin = begin,
	.settle = settle,
	.alone = alone,
	.release = release,
};
static const struct sa_source_ops few_ops = {
	.hold = hold,
	.mark = mark,
	.resume = resume,
	.release = release,
};

static struct fake a, b;

/* What is said by a cut of @count members, of which @a fails in step @fails. */
static int cut(size_t count, char fails, const struct sa_source_ops *ops_of_b)
{
	static char machine[] = "m";
	struct sa_source *members[] = {&a.base, &b.base};
	struct sa_cut out;

	a = (struct fake){.base = {.ops = &all_ops}, .name = 'a', .fails = fails};
	b = (struct fake){.base = {.ops = ops_of_b}, .name = 'b'};
	a.base.cfg.machine = b.base.cfg.machine = machine;
	sa_source_set_state(&a.base, SA_SRC_READY);
	sa_source_set_state(&b.base, SA_SRC_READY);
	said[0] = '\0';
	return sa_source_cut(&out, members, count, 7, NULL);
}

static void test_group(void **state)
{
	(void)state;
	assert_int_equal(cut(2, '-', &all_ops), 0);
	assert_string_equal(said, "ha hb Ha Hb ma mb Ma Mb ra rb Ra Rb Sa Sb ");
	assert_true(a.base.cut_open && b.base.cut_open);
	sa_source_release(&a.base, SA_CUT_KEPT, NULL);
	assert_false(a.base.cut_open);
	/* drivers that cannot begin a step are asked one after the other */
	assert_int_equal(cut(2, '-', &few_ops), 0);
	assert_string_equal(said, "ha Ha Hb ma Ma Mb ra Ra Rb Sa ");
}

static void test_failures(void **state)
{
	(void)state;
	assert_int_equal(cut(2, 'H', &all_ops), LB_ETIMEDOUT);
	assert_string_equal(said, "ha hb Ha Hb ra rb Ra Rb ");
	assert_int_equal(cut(2, 'H', &few_ops), LB_ETIMEDOUT);
	assert_string_equal(said, "ha Ha ra Ra Rb ");
	assert_int_equal(cut(2, 'M', &all_ops), LB_ETIMEDOUT);
	assert_string_equal(said, "ha hb Ha Hb ma mb Ma Mb ra rb Ra Rb Db ");
	assert_int_equal(cut(2, 'S', &all_ops), LB_ETIMEDOUT);
	assert_string_equal(said, "ha hb Ha Hb ma mb Ma Mb ra rb Ra Rb Sa Da Db ");
	assert_false(a.base.cut_open || b.base.cut_open);
}

static void test_alone(void **state)
{
	(void)state;
	assert_int_equal(cut(1, '-', &all_ops), 0);
	assert_string_equal(said, "Aa Sa ");
	assert_true(a.base.cut_open);
	assert_int_equal(cut(1, 'A', &all_ops), LB_ETIMEDOUT);
	assert_string_equal(said, "Aa ");
	assert_int_equal(cut(1, 'S', &all_ops), LB_ETIMEDOUT);
	assert_string_equal(said, "Aa Sa Da ");
	assert_false(a.base.cut_open);
}

/* One is not ready: nobody is asked to stand still. */
static void test_not_ready(void **state)
{
	struct sa_source *members[] = {&a.base, &b.base};
	struct sa_cut out;

	(void)state;
	assert_int_equal(cut(2, 'H', &all_ops), LB_ETIMEDOUT);
	said[0] = '\0';
	sa_source_set_state(&b.base, SA_SRC_LOST);
	assert_int_equal(sa_source_cut(&out, members, 2, 7, NULL), LB_EAGAIN);
	assert_null(strchr(said, 'h'));
	assert_null(strchr(said, 'H'));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_group),
		cmocka_unit_test(test_failures),
		cmocka_unit_test(test_alone),
		cmocka_unit_test(test_not_ready),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
