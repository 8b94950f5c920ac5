#include "uffd.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/err.h"

#ifndef USERFAULTFD_IOC_NEW /* Linux 6.1 */
#define USERFAULTFD_IOC_NEW _IO(0xAA, 0x00)
#endif

static int by_device(void)
{
	int dev = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
	int fd;

	if (dev < 0)
		return -1;
	fd = ioctl(dev, USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK);
	(void)close(dev);
	return fd;
}

int vm_uffd_open(int *out, struct lb_err *err)
{
	struct uffdio_api api = {.api = UFFD_API, .features = UFFD_FEATURE_MISSING_SHMEM};
	int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);

	if (fd < 0)
		fd = by_device();
	if (fd < 0)
		return lb_err_set(err, LB_EUNSUPPORTED, errno, "userfaultfd");
	if (ioctl(fd, UFFDIO_API, &api) != 0) {
		int e = errno;

		(void)close(fd);
		return lb_err_set(err, LB_EUNSUPPORTED, e, "userfaultfd of shared memory");
	}
	*out = fd;
	return 0;
}

bool vm_uffd_works(void)
{
	int fd = -1;

	if (vm_uffd_open(&fd, NULL) != 0)
		return false;
	(void)close(fd);
	return true;
}
