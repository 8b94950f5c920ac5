#include "grub_point.h"

#include <sys/wait.h>
#include <unistd.h>

#include "base/err.h"
#include "check.h"
#include "imaging/dev.h"

static void must(int rc, const struct lb_err *err)
{
	if (rc != 0)
		fail_msg("%s: %s", lb_err_name(rc), err->msg);
}

static void run(const char *const *argv)
{
	pid_t pid = fork();
	int status = 0;

	assert_true(pid >= 0);
	if (pid == 0) {
		(void)execvp(argv[0], (char *const *)(uintptr_t)argv);
		_exit(127);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

/* GRUB's disk is the content of the group's volume. */
static void make_disk(struct view_point *g, const char *script, const char *words)
{
	char path[96];
	const char *const argv[] = {script, path, GRUB_TEXT, words, NULL};
	struct img_file_cfg cfg = {.path = path};
	struct img_dev *d = NULL;
	struct lb_err err = {0};

	(void)snprintf(path, sizeof(path), "%s/grub.raw", g->dir);
	run(argv);
	must(img_file_create(&d, &cfg, &err), &err);
	assert_int_equal(d->size_bytes, GRUB_DISK_BYTES);
	must(img_pread(d, g->group.vol[0].image, GRUB_DISK_BYTES, 0, &err), &err);
	view_point_dirty_all(g);
	img_dev_destroy(d);
	(void)unlink(path);
}

void grub_point_init(struct view_point *g, const char *plugin, const char *script,
		     const char *words)
{
	struct sf_volume *disk = &g->group.vol[0];

	view_point_init(g, GRUB_DISK_BLOCKS, 7);
	make_disk(g, script, words);
	view_point_send(g);
	/* a block behind GRUB changes, so that the view has two layers */
	disk->image[GRUB_DISK_BYTES - 1] = 0x55;
	disk->dirty[GRUB_DISK_BLOCKS - 1] = true;
	view_point_send(g);
	view_point_ready(g);
	view_point_keys(g, 0600);
	assert_int_equal(view_point_serve(g, plugin), 0);
	(void)alarm(0); /* the caller has a watchdog of its own */
}
