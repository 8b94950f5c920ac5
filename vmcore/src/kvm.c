#include "kvm.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/err.h"

#define KVM_API 12 /* frozen since Linux 2.6.22 */

static int result(int rc, const char *name, struct lb_err *err)
{
	if (rc < 0 && errno == ENOMEM)
		return lb_err_set(err, LB_ENOMEM, errno, "%s", name);
	if (rc < 0)
		return lb_err_set(err, LB_EIO, errno, "%s", name);
	return rc;
}

int vm_kvm_call(int fd, unsigned long request, const void *arg, const char *name,
		struct lb_err *err)
{
	int rc;

	do
		rc = ioctl(fd, request, arg);
	while (rc < 0 && errno == EINTR);
	return result(rc, name, err);
}

int vm_kvm_call_number(int fd, unsigned long request, unsigned long value, const char *name,
		       struct lb_err *err)
{
	int rc;

	do
		rc = ioctl(fd, request, value);
	while (rc < 0 && errno == EINTR);
	return result(rc, name, err);
}

int vm_kvm_open(int *out, struct lb_err *err)
{
	int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	int version;

	if (fd < 0)
		return lb_err_set(err, LB_EUNSUPPORTED, errno, "/dev/kvm");
	version = ioctl(fd, KVM_GET_API_VERSION, 0);
	if (version != KVM_API) {
		(void)close(fd);
		return lb_err_set(err, LB_EUNSUPPORTED, 0, "/dev/kvm: API version %d, need %d",
				  version, KVM_API);
	}
	*out = fd;
	return 0;
}

int vm_kvm_cap(int fd, int cap)
{
	int rc = ioctl(fd, KVM_CHECK_EXTENSION, (unsigned long)cap);

	return rc < 0 ? 0 : rc;
}

int vm_kvm_require(int kvm_fd, struct lb_err *err)
{
	static const struct {
		int cap;
		const char *name;
	} need[] = {
		{KVM_CAP_IRQCHIP, "KVM_CAP_IRQCHIP"},
		{KVM_CAP_PIT2, "KVM_CAP_PIT2"},
		{KVM_CAP_PIT_STATE2, "KVM_CAP_PIT_STATE2"},
		{KVM_CAP_SIGNAL_MSI, "KVM_CAP_SIGNAL_MSI"},
		{KVM_CAP_READONLY_MEM, "KVM_CAP_READONLY_MEM"},
		{KVM_CAP_IMMEDIATE_EXIT, "KVM_CAP_IMMEDIATE_EXIT"},
		{KVM_CAP_VCPU_EVENTS, "KVM_CAP_VCPU_EVENTS"},
		{KVM_CAP_DEBUGREGS, "KVM_CAP_DEBUGREGS"},
		{KVM_CAP_XSAVE, "KVM_CAP_XSAVE"},
		{KVM_CAP_XCRS, "KVM_CAP_XCRS"},
		{KVM_CAP_MP_STATE, "KVM_CAP_MP_STATE"},
		{KVM_CAP_ADJUST_CLOCK, "KVM_CAP_ADJUST_CLOCK"},
		{KVM_CAP_SREGS2, "KVM_CAP_SREGS2"},
		{KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, "KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2"},
	};

	for (size_t i = 0; i < sizeof(need) / sizeof(need[0]); i++)
		if (vm_kvm_cap(kvm_fd, need[i].cap) == 0)
			return lb_err_set(err, LB_EUNSUPPORTED, 0, "this KVM lacks %s",
					  need[i].name);
	return 0;
}
