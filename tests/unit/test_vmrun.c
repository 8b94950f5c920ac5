/*
 * lifeboat-vm processes as the agent starts, finds and ends them, and which driver a boot gets.
 * argv[1]: lifeboat-vm with a machine that needs no KVM.
 */
#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/err.h"
#include "check.h"
#include "hv_int.h"
#include "vmcore/host.h"
#include "vmdesc_int.h"
#include "vmrun_int.h"

static const char *program;
static char dir[64], image[96], kernel[96];
static struct sa_vmdesc desc;
static struct sa_vmrun_disk disk[1];
static struct sa_vmrun run;

static void write_file(const char *name, const char *text)
{
	char path[128];
	int fd;

	(void)snprintf(path, sizeof(path), "%s/%s", dir, name);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	(void)close(fd);
}

static int setup(void **state)
{
	(void)state;
	(void)snprintf(dir, sizeof(dir), "/tmp/lbvmrun.XXXXXX");
	assert_non_null(mkdtemp(dir));
	(void)snprintf(image, sizeof(image), "%s/disk.img", dir);
	(void)snprintf(kernel, sizeof(kernel), "%s/kernel", dir);
	write_file("disk.img", "");
	assert_int_equal(truncate(image, 1 << 20), 0);
	write_file("kernel", "kernel");
	desc = (struct sa_vmdesc){
		.name = "db", .ram_bytes = 2 << 20, .vcpus = 1, .direct_kernel = true, .disks = 1};
	memcpy(desc.disk[0].name, "vda", 4);
	desc.disk[0].bus = VM_DISK_VIRTIO;
	disk[0] = (struct sa_vmrun_disk){.path = image, .size_bytes = 1 << 20, .logged = true};
	run = (struct sa_vmrun){
		.dir = dir, .program = program, .desc = &desc, .disk = disk, .kernel = kernel};
	return 0;
}

static int teardown(void **state)
{
	char path[400];
	struct dirent *e;
	DIR *d;

	(void)state;
	assert_int_equal(sa_vmrun_end(dir, NULL), 0);
	d = opendir(dir);
	while (d != NULL && (e = readdir(d)) != NULL) {
		(void)snprintf(path, sizeof(path), "%s/%s", dir, e->d_name);
		(void)unlink(path);
	}
	if (d != NULL)
		(void)closedir(d);
	assert_int_equal(rmdir(dir), 0);
	return 0;
}

static void start(void)
{
	struct lb_err err = {0};

	if (sa_vmrun_start(&run, &err) != 0)
		fail_msg("%s", err.msg);
}

static void test_life(void **state)
{
	struct vm_ctl_msg answer;
	struct lb_err err = {0};
	pid_t pid = 0;

	(void)state;
	assert_false(sa_vmrun_alive(dir, NULL));
	assert_int_equal(sa_vmrun_ask(dir, VM_CTL_STATE, 0, VM_CTL_INFO, &answer, &err),
			 LB_ENOTFOUND);
	start();
	assert_true(sa_vmrun_alive(dir, &pid));
	assert_int_equal(getsid(pid), pid); /* a session of its own: it outlives ours */
	assert_int_equal(sa_vmrun_ask(dir, VM_CTL_STATE, 0, VM_CTL_INFO, &answer, &err), 0);
	assert_int_equal(answer.info.pid, pid);
	assert_int_equal(answer.info.disks, 1);
	assert_int_equal(sa_vmrun_start(&run, &err), LB_EBUSY);
	assert_true(sa_vmrun_alive(dir, NULL)); /* the refused start did no harm */
	assert_int_equal(sa_vmrun_end(dir, &err), 0);
	assert_false(sa_vmrun_alive(dir, NULL));
	assert_int_equal(sa_vmrun_end(dir, &err), 0);
	start(); /* again, over what the first one left */
}

static void test_killed(void **state)
{
	pid_t pid = 0;

	(void)state;
	start();
	assert_true(sa_vmrun_alive(dir, &pid));
	assert_int_equal(kill(pid, SIGKILL), 0);
	for (int i = 0; i < 10000 && sa_vmrun_alive(dir, NULL); i++)
		(void)poll(NULL, 0, 1);
	assert_false(sa_vmrun_alive(dir, NULL));
	assert_int_equal(waitpid(pid, NULL, WNOHANG), -1); /* it was reaped on the way */
	start();
}

/* A stopped process neither answers nor ends by itself. */
static void test_hung(void **state)
{
	pid_t pid = 0;

	(void)state;
	start();
	assert_true(sa_vmrun_alive(dir, &pid));
	assert_int_equal(kill(pid, SIGSTOP), 0);
	assert_int_equal(sa_vmrun_end(dir, NULL), 0);
	assert_false(sa_vmrun_alive(dir, NULL));
}

/* What the next connection finds: a machine that ends just then, and is reaped. Its number may be
 * another process's from there on, so nobody may send it a signal by number. */
static pid_t ends_now;
static unsigned signals;

int __real_vm_ctl_open(struct vm_ctl **out, const char *path, uint64_t ns, struct lb_err *err);
int __wrap_vm_ctl_open(struct vm_ctl **out, const char *path, uint64_t ns, struct lb_err *err);
int __real_kill(pid_t pid, int signo);
int __wrap_kill(pid_t pid, int signo);

int __wrap_kill(pid_t pid, int signo)
{
	signals += pid == ends_now && signo != 0 ? 1 : 0;
	return __real_kill(pid, signo);
}

int __wrap_vm_ctl_open(struct vm_ctl **out, const char *path, uint64_t ns, struct lb_err *err)
{
	if (ends_now == 0)
		return __real_vm_ctl_open(out, path, ns, err);
	assert_int_equal(__real_kill(ends_now, SIGKILL), 0);
	assert_int_equal(waitpid(ends_now, NULL, 0), ends_now);
	return lb_err_set(err, LB_ECLOSED, 0, "nobody answers");
}

static void test_number_given_away(void **state)
{
	pid_t pid = 0;

	(void)state;
	start();
	assert_true(sa_vmrun_alive(dir, &pid));
	ends_now = pid;
	signals = 0;
	assert_int_equal(sa_vmrun_end(dir, NULL), 0);
	ends_now = 0;
	assert_int_equal(signals, 0);
}

static pthread_barrier_t both_ready;

static void *start_too(void *arg)
{
	int *rc = arg;

	(void)pthread_barrier_wait(&both_ready);
	*rc = sa_vmrun_start(&run, NULL);
	return NULL;
}

/* Two who run one machine at the same time: it has one disk, so one of them is refused. */
static void test_started_twice(void **state)
{
	pthread_t other;
	int mine, theirs;

	(void)state;
	for (int i = 0; i < 5; i++) {
		mine = theirs = 1;
		assert_int_equal(pthread_barrier_init(&both_ready, NULL, 2), 0);
		assert_int_equal(pthread_create(&other, NULL, start_too, &theirs), 0);
		(void)start_too(&mine);
		assert_int_equal(pthread_join(other, NULL), 0);
		(void)pthread_barrier_destroy(&both_ready);
		if (mine != 0 ? theirs != 0 || mine != LB_EBUSY : theirs != LB_EBUSY)
			fail_msg("one start gave %d, the other %d", mine, theirs);
		assert_true(sa_vmrun_alive(dir, NULL));
		assert_int_equal(sa_vmrun_end(dir, NULL), 0);
	}
}

/* Somebody else's process must never be taken for a machine, or be killed as one. */
static void test_records_of_others(void **state)
{
	char text[256], boot[64] = "";
	int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);

	(void)state;
	assert_true(fd >= 0 && read(fd, boot, 36) == 36);
	(void)close(fd);
	(void)snprintf(text, sizeof(text),
		       "{\"format\":1,\"pid\":%d,\"boot_id\":\"%s\",\"start_ticks\":1}",
		       (int)getpid(), boot);
	write_file("vm.json", text); /* our pid, but another start: the pid was used again */
	assert_false(sa_vmrun_alive(dir, NULL));
	assert_int_equal(sa_vmrun_end(dir, NULL), 0); /* we are still here */
	(void)snprintf(text, sizeof(text),
		       "{\"format\":1,\"pid\":%d,\"boot_id\":\"00000000\",\"start_ticks\":1}",
		       (int)getpid());
	write_file("vm.json", text);
	assert_false(sa_vmrun_alive(dir, NULL));
	write_file("vm.json", "{\"pid\":1");
	assert_false(sa_vmrun_alive(dir, NULL));
	write_file("vm.json", "{\"pid\":-1,\"boot_id\":7,\"start_ticks\":\"x\"}");
	assert_false(sa_vmrun_alive(dir, NULL));
	write_file("vm.json", "");
	assert_false(sa_vmrun_alive(dir, NULL));
}

static void expect_refused(int rc, const char *words)
{
	struct lb_err err = {0};
	int got = sa_vmrun_start(&run, &err);

	if (got != rc || strstr(err.msg, words) == NULL)
		fail_msg("%d \"%s\", expected %d \"%s\"", got, err.msg, rc, words);
	assert_false(sa_vmrun_alive(dir, NULL));
}

static void test_what_cannot_start(void **state)
{
	(void)state;
	run.program = "/nonexistent/lifeboat-vm";
	expect_refused(LB_ENOTFOUND, "/nonexistent/lifeboat-vm");
	run.program = "/bin/true";
	expect_refused(LB_EIO, "ended before it said why");
	run.program = program;
	run.kernel = NULL;
	expect_refused(LB_EUNSUPPORTED, "kernel");
	run.kernel = kernel;
	disk[0].path = "/nonexistent.img";
	expect_refused(LB_ENOTFOUND, "/nonexistent.img");
	disk[0].path = image;
	disk[0].size_bytes = 2 << 20; /* it is shorter */
	expect_refused(LB_EINPUT, "vda");
	disk[0] = (struct sa_vmrun_disk){.size_bytes = 1 << 20, .view_socket = "/nonexistent.sock"};
	expect_refused(LB_ENOTFOUND, "/nonexistent.sock");
}

/* ---- which driver ---- */

/* What this host's KVM is said to be: linked in place of the measurement. */
static enum vm_kvm_kind kvm_kind = VM_KVM_EMULATING;
void __wrap_vm_probe(struct vm_host *out);
void __wrap_vm_probe(struct vm_host *out)
{
	*out = (struct vm_host){.kind = kvm_kind};
	(void)snprintf(out->detail, sizeof(out->detail), "as the test says");
}

static const char *expected_why;

/* What sa_hv_adopt() says of @dir; 0: then it was stopped too, and its overlays removed. */
static int adopt(const char *driver, struct lb_err *err)
{
	const struct sa_hv_cfg cfg = {.driver = driver,
				      .uri = "qemu+unix:///system?socket=/nonexistent",
				      .vm_program = program,
				      .kernel = kernel};
	struct sa_hv_disk d = {
		.name = "vda", .nbd_socket = "/nonexistent.sock", .size_bytes = 1 << 20};
	struct sa_hv_boot_cfg boot = {.name = "db", .disks = &d, .disk_count = 1, .dir = dir};
	struct sa_hv_machine *m = NULL;
	struct sa_hv *hv = NULL;
	char *xml = NULL;
	int rc;

	*err = (struct lb_err){0};
	assert_int_equal(sa_hv_create(&hv, &cfg, err), 0);
	assert_int_equal(sa_vmdesc_xml(&xml, &desc, err), 0);
	boot.machine_xml = xml;
	rc = sa_hv_adopt(hv, &m, &boot, err);
	if (rc == 0)
		assert_int_equal(sa_hv_stop(m, true, err), 0);
	sa_hv_machine_destroy(m);
	sa_hv_destroy(hv);
	free(xml);
	return rc;
}

/* Once it is removed there is nothing to adopt: else the next attempt in the same directory would
 * take an empty overlay for a machine that is off. */
static void test_removed(void **state)
{
	struct lb_err err;

	(void)state;
	assert_int_equal(adopt("vmcore", &err), LB_ENOTFOUND);
	start();
	assert_int_equal(adopt("vmcore", &err), 0);
	assert_false(sa_vmrun_alive(dir, NULL));
	assert_int_equal(adopt("vmcore", &err), LB_ENOTFOUND);
}

/* Whose a machine is, is seen by its files: libvirt is asked only for what can be libvirt's. */
static void test_libvirt_away(void **state)
{
	struct lb_err err;

	(void)state;
	assert_int_equal(adopt("auto", &err), LB_ENOTFOUND);
	start();
	assert_int_equal(adopt("auto", &err), 0);
	assert_int_equal(adopt("auto", &err), LB_ENOTFOUND);
	write_file("vda.qcow2", "");
	assert_int_equal(adopt("auto", &err), LB_EAGAIN);
	/* it may run: who has forgotten how to ask must not say that it does not */
	assert_int_equal(adopt("vmcore", &err), LB_EUNSUPPORTED);
	assert_non_null(strstr(err.msg, "libvirt, which is not configured"));
}

static int prepare(const char *driver, const char *vm_program, const void *memory,
		   struct lb_err *err)
{
	const struct sa_hv_cfg cfg = {.driver = driver,
				      .uri = "qemu+unix:///system?socket=/nonexistent",
				      .vm_program = vm_program,
				      .kernel = kernel};
	struct sa_hv_disk d = {
		.name = "vda", .nbd_socket = "/nonexistent.sock", .size_bytes = 1 << 20};
	struct sa_hv_boot_cfg boot = {.name = "db",
				      .disks = &d,
				      .disk_count = 1,
				      .dir = dir,
				      .state = memory,
				      .state_bytes = 1,
				      .ram_socket = "/nonexistent.sock"};
	struct sa_hv_machine *m = NULL;
	struct sa_hv *hv = NULL;
	char *xml = NULL;
	int rc = sa_hv_create(&hv, &cfg, err);

	if (rc == 0)
		rc = sa_vmdesc_xml(&xml, &desc, err);
	boot.machine_xml = xml;
	if (rc == 0)
		rc = sa_hv_prepare(hv, &m, &boot, err);
	if (rc == 0) {
		assert_string_equal(sa_hv_driver(m), "vmcore");
		assert_string_equal(sa_hv_why(m), expected_why);
	}
	sa_hv_machine_destroy(m);
	sa_hv_destroy(hv);
	free(xml);
	return rc;
}

static void test_drivers(void **state)
{
	struct lb_err err = {0};

	(void)state;
	expected_why = "vmcore: as configured";
	assert_int_equal(prepare("xen", program, NULL, &err), LB_EINPUT);
	assert_non_null(strstr(err.msg, "auto, libvirt, vmcore"));
	assert_int_equal(prepare("vmcore", NULL, NULL, &err), LB_EINPUT);
	assert_int_equal(prepare("vmcore", program, NULL, &err), 0);
	assert_int_equal(prepare("vmcore", program, "m", &err), 0);
	/* memory is vmcore's alone; who asked is told what decided */
	assert_int_equal(prepare("libvirt", program, "m", &err), LB_EUNSUPPORTED);
	assert_non_null(strstr(err.msg, "memory points need vmcore; libvirt: as configured"));
	assert_int_equal(prepare("auto", "/nonexistent", "m", &err), LB_EUNSUPPORTED);
	assert_non_null(strstr(err.msg, "lifeboat-vm is not installed"));
	/* a machine that vmcore does not have goes to libvirt, whose daemon is not there */
	desc.disks = 0;
	assert_int_equal(prepare("vmcore", program, NULL, &err), LB_EINPUT);
	assert_int_equal(prepare("libvirt", program, NULL, &err), LB_EINPUT);
}

static void goes_to_libvirt(const char *words)
{
	struct lb_err err = {0};

	/* libvirt has no memory points, so the refusal tells the reason without its daemon */
	assert_int_equal(prepare("auto", program, "m", &err), LB_EUNSUPPORTED);
	if (strstr(err.msg, "memory points need vmcore; libvirt: ") == NULL ||
	    strstr(err.msg, words) == NULL)
		fail_msg("\"%s\" does not say \"%s\"", err.msg, words);
}

/* Nothing is configured: vmcore where KVM is native and the machine fits, else libvirt. */
static void test_auto(void **state)
{
	const struct sa_vmdesc fits = desc;
	struct lb_err err = {0};

	(void)state;
	kvm_kind = VM_KVM_NATIVE;
	expected_why = "vmcore: KVM is native (as the test says)";
	assert_int_equal(prepare("auto", program, NULL, &err), 0);
	assert_int_equal(prepare("auto", program, "m", &err), 0);
	desc.ram_bytes = UINT64_C(1) << 44; /* more than any host has */
	goes_to_libvirt("MiB of memory");
	desc = fits;
	desc.disks = 0; /* the point has one that it does not know */
	goes_to_libvirt("disks");
	desc = fits;
	kvm_kind = VM_KVM_EMULATING;
	goes_to_libvirt("KVM is emulating (as the test says)");
	kvm_kind = VM_KVM_NONE;
	goes_to_libvirt("KVM is none (as the test says)");
	/* who says vmcore gets it, whatever KVM is */
	expected_why = "vmcore: as configured";
	assert_int_equal(prepare("vmcore", program, NULL, &err), 0);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_life, setup, teardown),
		cmocka_unit_test_setup_teardown(test_killed, setup, teardown),
		cmocka_unit_test_setup_teardown(test_hung, setup, teardown),
		cmocka_unit_test_setup_teardown(test_number_given_away, setup, teardown),
		cmocka_unit_test_setup_teardown(test_started_twice, setup, teardown),
		cmocka_unit_test_setup_teardown(test_records_of_others, setup, teardown),
		cmocka_unit_test_setup_teardown(test_what_cannot_start, setup, teardown),
		cmocka_unit_test_setup_teardown(test_removed, setup, teardown),
		cmocka_unit_test_setup_teardown(test_libvirt_away, setup, teardown),
		cmocka_unit_test_setup_teardown(test_drivers, setup, teardown),
		cmocka_unit_test_setup_teardown(test_auto, setup, teardown),
	};

	assert_int_equal(argc, 2);
	program = argv[1];
	(void)alarm(100); /* watchdog */
	return cmocka_run_group_tests(tests, NULL, NULL);
}
