/* SPDX-License-Identifier: BSD-3-Clause */
/* What the back-end knows of requests and feature bits, as lines for gen-protocol. */
#include <stdio.h>

#include "vu.h"

static const char *const offers[] = {
	[VU_OFFER_ALWAYS] = "always",
	[VU_OFFER_OPTED] = "if configured",
	[VU_OFFER_NEVER] = "no",
};

static void print_requests(void)
{
	struct vu_request_info r;

	for (unsigned id = 0; id < 64; id++)
		if (vu_request_info(id, &r))
			printf("request\t%u\t%s\t%d\t%s\t%s\n", id, r.name, r.needs,
				r.replies ? "yes" : "no", r.does);
}

static void print_bits(const char *kind, bool (*info)(unsigned, struct vu_bit_info *))
{
	struct vu_bit_info bit;

	for (unsigned i = 0; i < 64; i++)
		if (info(i, &bit))
			printf("%s\t%u\t%s\t%s\t%s\n", kind, i, bit.name, offers[bit.offer],
				bit.why);
}

int main(void)
{
	print_requests();
	print_bits("protocol", vu_protocol_feature_info);
	print_bits("feature", vu_feature_info);
	return 0;
}
