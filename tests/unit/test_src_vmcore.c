/* The vmcore driver over a connection that is a script: when it is given up and opened again. */
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "check.h"
#include "siteagent/source.h"
#include "src_int.h"
#include "vmdesc_int.h"
#include "vmrun_int.h"

/* In place of vmcore's. */
struct vm_ctl {
	bool broken;
	enum vm_ctl_type asked;
};

static struct vm_ctl connection;
static unsigned opened;
static bool mute;    /* no answer comes */
static bool refuses; /* the machine itself says that it took too long */
static struct vm_ctl_info info = {.disks = 1, .state = VM_RUNNING};

int sa_vmrun_open(struct vm_ctl **out, const char *dir, struct lb_err *err)
{
	(void)dir;
	(void)err;
	opened++;
	connection = (struct vm_ctl){.broken = false};
	*out = &connection;
	return 0;
}

int sa_vmdesc_xml(char **out, const struct sa_vmdesc *d, struct lb_err *err)
{
	(void)d;
	(void)err;
	*out = strdup("<machine/>");
	return *out != NULL ? 0 : LB_ENOMEM;
}

void vm_ctl_close(struct vm_ctl *c)
{
	(void)c;
}

const struct vm_ctl_info *vm_ctl_info(const struct vm_ctl *c)
{
	(void)c;
	return &info;
}

bool vm_ctl_usable(const struct vm_ctl *c)
{
	return !c->broken;
}

int vm_ctl_begin(struct vm_ctl *c, const struct vm_ctl_msg *request, struct lb_err *err)
{
	c->asked = request->type;
	return c->broken ? lb_err_set(err, LB_ETIMEDOUT, 0, "an earlier answer did not come") : 0;
}

int vm_ctl_finish(struct vm_ctl *c, enum vm_ctl_type want, struct vm_ctl_msg *answer, int fds[3],
		  struct lb_err *err)
{
	c->broken = mute;
	if (mute || (refuses && c->asked == VM_CTL_CUT_ALONE))
		return lb_err_set(err, LB_ETIMEDOUT, 0, mute ? "no answer" : "too late");
	*answer = (struct vm_ctl_msg){.type = want};
	answer->cut.disks = 1;
	answer->cut.disk_bytes[0] = 1 << 20;
	if (fds != NULL)
		fds[0] = fds[1] = fds[2] = -1;
	return 0;
}

static struct sa_source *source(void)
{
	static const struct sa_vmdesc desc;
	const struct sa_source_volume disk = {.name = "vda", .path = "/nowhere"};
	const struct sa_source_cfg cfg = {.driver = "vmcore",
					  .machine = "m",
					  .volumes = &disk,
					  .volume_count = 1,
					  .vm = &desc,
					  .work_dir = "/nowhere"};
	struct sa_source *s = NULL;

	opened = 0;
	mute = refuses = false;
	assert_int_equal(sa_source_create(&s, &cfg, NULL), 0);
	assert_int_equal(sa_source_prepare(s, NULL), 0);
	assert_int_equal(opened, 1);
	return s;
}

static int cut(struct sa_source *s)
{
	struct sa_source *members[] = {s};
	struct sa_cut out;

	return sa_source_cut(&out, members, 1, 1000000, NULL);
}

/* A host that stalled for longer than a call may take costs one cut, not the protection. */
static void test_an_answer_that_did_not_come(void **state)
{
	struct sa_source *s = source();

	(void)state;
	mute = true;
	assert_int_equal(cut(s), LB_ETIMEDOUT);
	assert_int_equal(sa_source_state(s), SA_SRC_LOST);
	mute = false;
	assert_int_equal(sa_source_prepare(s, NULL), 0);
	assert_int_equal(opened, 2);
	assert_int_equal(cut(s), 0);
	assert_int_equal(sa_source_volume(s, 0)->size_bytes, 1 << 20);
	sa_source_release(s, SA_CUT_KEPT, NULL);
	sa_source_destroy(s);
}

/* The machine's own "too late" is an answer: the connection stays. */
static void test_a_late_cut(void **state)
{
	struct sa_source *s = source();

	(void)state;
	refuses = true;
	assert_int_equal(cut(s), LB_ETIMEDOUT);
	assert_int_equal(sa_source_state(s), SA_SRC_READY);
	refuses = false;
	assert_int_equal(cut(s), 0);
	assert_int_equal(opened, 1);
	sa_source_destroy(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_an_answer_that_did_not_come),
		cmocka_unit_test(test_a_late_cut),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
