/* SPDX-License-Identifier: BSD-3-Clause */
/* Prefixes and opcode say how wide an access is; operands need not be decoded. */
#include "ts_watch_insn.h"

/* Intel's names: the opcode map, the operand-size and repeat prefixes as VEX packs them, W, and the
 * length of a vector. */
struct code {
	enum {
		MAP_NONE,
		MAP_0F,
		MAP_0F38,
		MAP_0F3A
	} map;
	enum {
		PP_NONE,
		PP_66,
		PP_F3,
		PP_F2
	} pp;
	bool w;
	uint8_t vector;
	uint8_t op;
};

static bool in(uint8_t op, uint8_t first, uint8_t last)
{
	return op >= first && op <= last;
}

static const uint8_t *prefixes(const uint8_t *p, struct code *c)
{
	for (;; p++) {
		if (*p == 0x66)
			c->pp = c->pp ? c->pp : PP_66;
		else if (*p == 0xf3)
			c->pp = PP_F3;
		else if (*p == 0xf2)
			c->pp = PP_F2;
		else if (*p != 0xf0 && *p != 0x2e && *p != 0x3e && *p != 0x64 && *p != 0x65)
			return p;
	}
}

static bool escape(const uint8_t *p, struct code *c)
{
	c->vector = 16;
	if ((*p & 0xf0) == 0x40)
		c->w = *p++ & 8;
	if (*p != 0x0f)
		c->map = MAP_NONE;
	else if (*++p == 0x38)
		c->map = MAP_0F38, p++;
	else if (*p == 0x3a)
		c->map = MAP_0F3A, p++;
	else
		c->map = MAP_0F;
	c->op = *p;
	return true;
}

static bool vex(const uint8_t *p, uint8_t map, uint8_t last, struct code *c)
{
	c->map = map & 3;
	c->pp = last & 3;
	c->vector = last & 4 ? 32 : 16;
	c->op = *p;
	return map <= MAP_0F3A;
}

/* Masked and broadcast operands depend on more. */
static bool evex(const uint8_t *p, struct code *c)
{
	const uint8_t length = p[3] >> 5 & 3;

	c->map = p[1] & 3;
	c->pp = p[2] & 3;
	c->w = p[2] & 0x80;
	c->vector = (uint8_t)(16 << length);
	c->op = p[4];
	return !(p[1] & 4) && !(p[3] & 0x17) && length < 3;
}

static bool decode(const uint8_t *p, struct code *c)
{
	*c = (struct code){0};
	p = prefixes(p, c);
	switch (*p) {
	case 0xc5:
		return vex(p + 2, MAP_0F, p[1], c);
	case 0xc4:
		c->w = p[2] & 0x80;
		return vex(p + 3, p[1] & 0x1f, p[2], c);
	case 0x62:
		return evex(p, c);
	default:
		return escape(p, c);
	}
}

static uint8_t operand(const struct code *c)
{
	return c->w ? 8 : c->pp == PP_66 ? 2 : 4;
}

/* 0: unknown */
static uint8_t width_plain(const struct code *c, bool *store)
{
	const uint8_t wide = c->op & 1 ? operand(c) : 1;

	*store = in(c->op, 0x88, 0x89) || in(c->op, 0xc6, 0xc7) || in(c->op, 0xa4, 0xa5) ||
		 in(c->op, 0xaa, 0xab);
	if (*store || (c->op < 0x40 && (c->op & 7) < 4) || in(c->op, 0x84, 0x8b) ||
		in(c->op, 0xa6, 0xa7) || in(c->op, 0xae, 0xaf) || in(c->op, 0xc0, 0xc1) ||
		in(c->op, 0xd0, 0xd3) || in(c->op, 0xf6, 0xf7) || in(c->op, 0xfe, 0xff))
		return wide;
	if (in(c->op, 0x80, 0x83))
		return c->op == 0x80 ? 1 : operand(c);
	if (c->op == 0x63)
		return 4;
	return c->op == 0x69 || c->op == 0x6b ? operand(c) : 0;
}

static uint8_t width_moves(const struct code *c, bool *store)
{
	switch (c->op) {
	case 0x11:
		*store = true;
		/* fallthrough */
	case 0x10:
		return c->pp == PP_F3 ? 4 : c->pp == PP_F2 ? 8 : c->vector;
	case 0x13:
	case 0x17:
		*store = true;
		/* fallthrough */
	case 0x12:
	case 0x16:
		return c->pp <= PP_66 ? 8 : 0;
	case 0x29:
	case 0x2b:
	case 0xe7:
	case 0x7f:
		*store = true;
		/* fallthrough */
	case 0x28:
	case 0x6f:
		return c->op >= 0x6f && c->pp == PP_NONE ? 8 : c->vector;
	case 0xc3: /* movnti */
		*store = true;
		/* fallthrough */
	case 0x6e:
		return c->w ? 8 : 4;
	case 0x7e:
		*store = c->pp != PP_F3;
		return c->pp == PP_F3 || c->w ? 8 : 4;
	case 0xd6:
		*store = true;
		return 8;
	case 0xf0:
		return c->vector;
	default:
		return 0;
	}
}

static uint8_t width_0f(const struct code *c, bool *store)
{
	const uint8_t move = width_moves(c, store);

	if (move)
		return move;
	if (in(c->op, 0x90, 0x9f)) {
		*store = true;
		return 1;
	}
	switch (c->op) {
	case 0xb0:
	case 0xb6:
	case 0xbe:
	case 0xc0:
		return 1;
	case 0xb7:
	case 0xbf:
	case 0xc4:
		return 2;
	case 0xc7:
		return c->w ? 16 : 8;
	}
	if (in(c->op, 0x40, 0x4f) || in(c->op, 0xa3, 0xa5) || in(c->op, 0xab, 0xad) ||
		in(c->op, 0xaf, 0xc1))
		return operand(c);
	if (c->pp == PP_66 && (in(c->op, 0x54, 0x57) || in(c->op, 0x60, 0x6d) ||
				      in(c->op, 0x70, 0x76) || in(c->op, 0xd1, 0xfe)))
		return c->vector;
	return c->pp == PP_NONE && (in(c->op, 0x14, 0x15) || in(c->op, 0x54, 0x57) || c->op == 0xc6)
		       ? c->vector
		       : 0;
}

static uint8_t width_0f38(const struct code *c, bool *store)
{
	static const uint8_t extend[] = {2, 4, 8, 2, 4, 2}; /* fractions of a vector */

	*store = c->op == 0xf1 && c->pp <= PP_66;
	if (in(c->op, 0xf0, 0xf1))
		return c->op == 0xf0 && c->pp == PP_F2 ? 1 : operand(c);
	if (in(c->op, 0xf2, 0xf7))
		return c->w ? 8 : 4;
	if (c->pp != PP_66)
		return 0;
	if (in(c->op, 0x20, 0x25) || in(c->op, 0x30, 0x35))
		return (uint8_t)(c->vector / extend[c->op & 7]);
	if (in(c->op, 0x00, 0x0b) || c->op == 0x10 || c->op == 0x17 || in(c->op, 0x1c, 0x1e) ||
		in(c->op, 0x28, 0x2b) || in(c->op, 0x37, 0x41))
		return c->vector;
	switch (c->op) {
	case 0x78:
		return 1;
	case 0x79:
		return 2;
	case 0x18:
	case 0x58:
		return 4;
	case 0x19:
	case 0x59:
		return 8;
	case 0x5a:
		return 16;
	default:
		return 0;
	}
}

static uint8_t width_0f3a(const struct code *c, bool *store)
{
	*store = in(c->op, 0x14, 0x17) || c->op == 0x19 || c->op == 0x39;
	switch (c->op) {
	case 0x14:
	case 0x20:
		return 1;
	case 0x15:
		return 2;
	case 0x16:
	case 0x22:
	case 0xf0:
		return c->w ? 8 : 4;
	case 0x17:
	case 0x21:
		return 4;
	case 0x18:
	case 0x19:
	case 0x38:
	case 0x39:
		return 16;
	case 0x0f:
		return c->vector;
	default:
		return 0;
	}
}

bool ts_insn_of(const uint8_t *ip, struct ts_insn *insn)
{
	static uint8_t (*const width[])(const struct code *, bool *) = {
		[MAP_NONE] = width_plain,
		[MAP_0F] = width_0f,
		[MAP_0F38] = width_0f38,
		[MAP_0F3A] = width_0f3a,
	};
	struct code c;

	*insn = (struct ts_insn){0};
	if (!decode(ip, &c))
		return false;
	insn->width = width[c.map](&c, &insn->only_stores);
	return insn->width > 0;
}
