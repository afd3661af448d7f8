/* SPDX-License-Identifier: BSD-3-Clause */
/* Feature bits: their names, which are offered, and why the others are not. */
#include <stdio.h>
#include <string.h>

#include "vu.h"

/*
 * Theory of operation
 *
 * These two tables decide what is offered; doc/protocol.md is made from them. A bit without a row
 * is unknown to us and never offered. Offers never shrink over a reconnection or an upgrade: QEMU
 * refuses a back-end that has lost a feature, so a bit that was ALWAYS stays so.
 */

#define ALWAYS VU_OFFER_ALWAYS
#define OPTED  VU_OFFER_OPTED
#define NEVER  VU_OFFER_NEVER

/* clang-format off */
static const struct vu_bit_info features[64] = {
	[0] = {"CSUM", ALWAYS, "the guest may leave checksums to us"},
	[1] = {"GUEST_CSUM", ALWAYS, "we may leave checksums to the guest"},
	[2] = {"CTRL_GUEST_OFFLOADS", NEVER, "the guest would change its offloads at run time, and no message tells us"},
	[3] = {"MTU", ALWAYS, "the guest is told an MTU: we send it nothing longer"},
	[5] = {"MAC", OPTED, "the guest gets its address from us, where the port has one for it"},
	[6] = {"GSO", ALWAYS, "TSO, UFO and ECN in one bit: guests without virtio 1.0 that net_vhost gave it may come here by migration"},
	[7] = {"GUEST_TSO4", ALWAYS, "we may hand the guest whole TCP segments"},
	[8] = {"GUEST_TSO6", ALWAYS, "the same for IPv6"},
	[9] = {"GUEST_ECN", ALWAYS, "also with CWR set"},
	[10] = {"GUEST_UFO", ALWAYS, "we may hand the guest UDP datagrams that are yet to be fragmented"},
	[11] = {"HOST_TSO4", ALWAYS, "the guest may send whole TCP segments"},
	[12] = {"HOST_TSO6", ALWAYS, "the same for IPv6"},
	[13] = {"HOST_ECN", ALWAYS, "also with CWR set"},
	[14] = {"HOST_UFO", ALWAYS, "the guest may leave the fragmenting of UDP datagrams to us"},
	[15] = {"MRG_RXBUF", ALWAYS, "a packet may span receive buffers"},
	[16] = {"STATUS", NEVER, "the front-end tells the guest of the link"},
	[17] = {"CTRL_VQ", ALWAYS, "the front-end serves the control queue; cloud-hypervisor asks for the bit"},
	[18] = {"CTRL_RX", ALWAYS, "likewise"},
	[19] = {"CTRL_VLAN", NEVER, "the front-end serves the control queue"},
	[20] = {"CTRL_RX_EXTRA", NEVER, "the front-end serves the control queue"},
	[21] = {"GUEST_ANNOUNCE", ALWAYS, "after a migration the guest announces itself"},
	[22] = {"MQ", ALWAYS, "several queue pairs"},
	[23] = {"CTRL_MAC_ADDR", NEVER, "the front-end serves the control queue"},
	[24] = {"NOTIFY_ON_EMPTY", NEVER, "a call per empty ring, which no driver has wanted since EVENT_IDX"},
	[26] = {"LOG_ALL", ALWAYS, "the dirty log of a live migration"},
	[27] = {"ANY_LAYOUT", ALWAYS, "a packet may be cut into descriptors anywhere"},
	[28] = {"INDIRECT_DESC", ALWAYS, "descriptors in a table of their own"},
	[29] = {"EVENT_IDX", ALWAYS, "notifications at an index"},
	[30] = {"PROTOCOL_FEATURES", ALWAYS, "the second set of features"},
	[32] = {"VERSION_1", ALWAYS, "virtio 1.0 and later"},
	[33] = {"ACCESS_PLATFORM", OPTED, "addresses that an IOMMU of the guest translates"},
	[34] = {"RING_PACKED", ALWAYS, "the other ring format"},
	[35] = {"IN_ORDER", ALWAYS, "buffers come back in order"},
	[36] = {"ORDER_PLATFORM", NEVER, "for hardware: we and the guest share caches"},
	[38] = {"NOTIFICATION_DATA", NEVER, "an eventfd carries no data"},
	[40] = {"RING_RESET", OPTED, "the guest may reset a single queue; QEMU (7.2 to 10.2) shows it to guests, but does not tell us when they do it"},
	[43] = {"SUSPEND", NEVER, "no vhost-user message tells of it"},
	[52] = {"VQ_NOTF_COAL", NEVER, "a control queue command; no message tells us"},
	[53] = {"NOTF_COAL", NEVER, "a control queue command; no message tells us"},
	[54] = {"GUEST_USO4", ALWAYS, "we may hand the guest several UDP datagrams as one"},
	[55] = {"GUEST_USO6", ALWAYS, "the same for IPv6"},
	[56] = {"HOST_USO", ALWAYS, "the guest may send several UDP datagrams as one"},
	[57] = {"HASH_REPORT", NEVER, "the hash's key and types are set by control queue, no message tells us"},
	[59] = {"GUEST_HDRLEN", NEVER, "a hint we have no use for: headers are parsed, never believed"},
	[60] = {"RSS", NEVER, "key and table are set by control queue, no message tells us"},
	[61] = {"RSC_EXT", NEVER, "we coalesce no segments for the guest"},
	[62] = {"STANDBY", NEVER, "a matter between front-end and guest"},
	[63] = {"SPEED_DUPLEX", NEVER, "a matter between front-end and guest"},
};

static const struct vu_bit_info protocol[64] = {
	[0] = {"MQ", ALWAYS, "the front-end may ask for the number of queue pairs"},
	[1] = {"LOG_SHMFD", ALWAYS, "the dirty log is shared memory"},
	[2] = {"RARP", ALWAYS, "we announce a guest that cannot itself after a migration"},
	[3] = {"REPLY_ACK", ALWAYS, "any message can be acknowledged"},
	[4] = {"NET_MTU", ALWAYS, "the front-end tells us the guest's MTU"},
	[5] = {"BACKEND_REQ", ALWAYS, "a channel for requests of ours"},
	[6] = {"CROSS_ENDIAN", NEVER, "for big-endian guests older than virtio 1.0: each access to a ring would pay for them"},
	[7] = {"CRYPTO_SESSION", NEVER, "for crypto devices"},
	[8] = {"PAGEFAULT", OPTED, "post-copy migration"},
	[9] = {"CONFIG", OPTED, "the configuration space comes from us, where the port has an address for the guest; QEMU warns of it"},
	[10] = {"BACKEND_SEND_FD", NEVER, "descriptors on the back-end channel: we have none to send"},
	[11] = {"HOST_NOTIFIER", NEVER, "doorbells of hardware, which we are not"},
	[12] = {"INFLIGHT_SHMFD", ALWAYS, "where rings are survives us in shared memory"},
	[13] = {"RESET_DEVICE", ALWAYS, "the device can be reset over the socket"},
	[14] = {"INBAND_NOTIFICATIONS", NEVER, "kicks and calls as messages: for simulators; a poller needs no kick, and lcores may not write to a socket"},
	[15] = {"CONFIGURE_MEM_SLOTS", ALWAYS, "memory regions come and go one by one"},
	[16] = {"STATUS", ALWAYS, "we are told the device status"},
	[17] = {"XEN_MMAP", NEVER, "for Xen's grants"},
	[18] = {"SHARED_OBJECT", NEVER, "dma-bufs of display devices"},
	[19] = {"DEVICE_STATE", NEVER, "we have no state that a guest could miss: addresses are learned again, counters belong to the port"},
	[20] = {"GET_VRING_BASE_INFLIGHT", NEVER, "for block devices: we drain before we answer"},
	[21] = {"GPA_ADDRESSES", NEVER, "peers disagree about the number: one release of rust-vmm used it for SHMEM"},
	[22] = {"SHMEM", NEVER, "for devices with shared memory regions (virtio-fs, gpu)"},
	[23] = {"GET_VRING_BASE_SKIP_DRAIN", NEVER, "for block devices: we drain in microseconds"},
};
/* clang-format on */

static bool bit_info(const struct vu_bit_info *table, unsigned bit, struct vu_bit_info *info)
{
	if (bit >= 64 || !table[bit].name)
		return false;
	*info = table[bit];
	return true;
}

bool vu_feature_info(unsigned bit, struct vu_bit_info *info)
{
	return bit_info(features, bit, info);
}

bool vu_protocol_feature_info(unsigned bit, struct vu_bit_info *info)
{
	return bit_info(protocol, bit, info);
}

static uint64_t offered(const struct vu_bit_info *table, enum vu_offer at_least)
{
	uint64_t bits = 0;

	for (unsigned i = 0; i < 64; i++)
		if (table[i].name && table[i].offer >= at_least)
			bits |= 1ull << i;
	return bits;
}

uint64_t vu_default_features(void)
{
	return offered(features, ALWAYS);
}

uint64_t vu_possible_features(void)
{
	return offered(features, OPTED);
}

uint64_t vu_default_protocol_features(void)
{
	return offered(protocol, ALWAYS);
}

static const struct vu_bit_info status[64] = {
	[0] = {.name = "ACKNOWLEDGE"},
	[1] = {.name = "DRIVER"},
	[2] = {.name = "DRIVER_OK"},
	[3] = {.name = "FEATURES_OK"},
	[6] = {.name = "NEEDS_RESET"},
	[7] = {.name = "FAILED"},
};

static const char *join(const struct vu_bit_info *table, uint64_t bits, char *buf, size_t len)
{
	size_t at = 0;

	buf[0] = '\0';
	for (unsigned i = 0; i < 64 && at < len; i++) {
		const char *space = at ? " " : "";

		if (!(bits & (1ull << i)))
			continue;
		if (table[i].name)
			at += (size_t)snprintf(buf + at, len - at, "%s%s", space, table[i].name);
		else
			at += (size_t)snprintf(buf + at, len - at, "%sbit%u", space, i);
	}
	return buf;
}

const char *vu_feature_names(uint64_t bits, char *buf, size_t len)
{
	return join(features, bits, buf, len);
}

const char *vu_protocol_feature_names(uint64_t bits, char *buf, size_t len)
{
	return join(protocol, bits, buf, len);
}

const char *vu_status_names(uint64_t bits, char *buf, size_t len)
{
	return join(status, bits, buf, len);
}
