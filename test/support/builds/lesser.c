/* SPDX-License-Identifier: BSD-3-Clause */
/* What a switch that knows no packed rings says of itself; the linker puts it in the other's place. */
#include <stdint.h>

#include <linux/virtio_config.h>

#define LACKS (1ull << VIRTIO_F_RING_PACKED)

uint64_t __real_vu_default_features(void);
uint64_t __real_vu_possible_features(void);
uint64_t __wrap_vu_default_features(void);
uint64_t __wrap_vu_possible_features(void);

uint64_t __wrap_vu_default_features(void)
{
	return __real_vu_default_features() & ~LACKS;
}

uint64_t __wrap_vu_possible_features(void)
{
	return __real_vu_possible_features() & ~LACKS;
}
