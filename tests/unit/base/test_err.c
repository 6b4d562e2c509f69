#include "base/err.h"

#include <errno.h>
#include <string.h>

#include "lib/check_main.h"

static const struct {
    err_t code;
    const char *name;
} rows[] = {
#define ROW(name, code, retriable, sentence) {(code), #name},
    ERR_MAP(ROW)
#undef ROW
};

START_TEST(every_code_has_one_row)
{
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        ck_assert_str_eq(err_name(rows[i].code), rows[i].name);
        ck_assert_uint_gt(strlen(err_sentence(rows[i].code)), 3);
    }
}
END_TEST

START_TEST(codes_are_kafkas)
{
    ck_assert_int_eq(ERR_OK, 0);
    ck_assert_int_eq(ERR_UNKNOWN_SERVER_ERROR, -1);
    ck_assert_int_eq(ERR_NOT_LEADER_OR_FOLLOWER, 6);
    ck_assert_int_eq(ERR_OUT_OF_ORDER_SEQUENCE_NUMBER, 45);
    ck_assert(err_retriable(ERR_NOT_LEADER_OR_FOLLOWER));
    ck_assert(!err_retriable(ERR_INVALID_TOPIC_EXCEPTION));
}
END_TEST

START_TEST(an_unknown_code_has_a_name_too)
{
    ck_assert_str_eq(err_name(31999), "UNKNOWN_ERROR_CODE");
    ck_assert_ptr_nonnull(err_sentence(31999));
    ck_assert(!err_retriable(31999));
}
END_TEST

START_TEST(errno_is_translated)
{
    ck_assert_int_eq(err_from_errno(0), ERR_OK);
    ck_assert_int_eq(err_from_errno(ENOSPC), ERR_NOT_ENOUGH_SPACE);
    ck_assert_int_eq(err_from_errno(ENOENT), ERR_NOT_FOUND);
    ck_assert_int_eq(err_from_errno(ECONNREFUSED), ERR_REFUSED);
    ck_assert_int_eq(err_from_errno(EHOSTUNREACH), ERR_UNREACHABLE);
    ck_assert_int_eq(err_from_errno(EIO), ERR_IO);
    ck_assert_int_eq(err_from_errno(123456), ERR_IO);
}
END_TEST

CHECK_MAIN("base/err", every_code_has_one_row, codes_are_kafkas, an_unknown_code_has_a_name_too,
           errno_is_translated)
