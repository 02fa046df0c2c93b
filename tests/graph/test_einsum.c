/* Einsum as matrix products: which equations become MatMul, and that the numbers stay. */
#include "graph_builder.h"

typedef struct row {
    const char *equation;
    int32_t ranks[2];
    int64_t dims[2][SPAROA_MAX_RANK];
    const char *nodes;
} row;

static const row *current;

static void build(builder *b)
{
    sp_id x = input(b, current->ranks[0], current->dims[0]),
          y = input(b, current->ranks[1], current->dims[1]), z = node(b, "Einsum", x, y);
    assert_true(sp_node_set_string(b->g, b->g->values[z].producer, "equation", current->equation));
    output(b, z);
}

static void check_all(const row *rows, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        current = &rows[i];
        check_passes(build, "fuse,layout", rows[i].nodes);
    }
}

static void test_products(void **state)
{
    static const row rows[] = {
        {"ij,jk->ik", {2, 2}, {{3, 4}, {4, 5}}, "MatMul"},
        {" i j , j k -> i k ", {2, 2}, {{3, 4}, {4, 5}}, "MatMul"},
        {"ij,jk->ki", {2, 2}, {{3, 4}, {4, 5}}, "MatMul Transpose"},
        {"bij,bjk->bik", {3, 3}, {{2, 3, 4}, {2, 4, 5}}, "MatMul"},
        {"bij,bjk->bik", {3, 3}, {{1, 3, 4}, {2, 4, 5}}, "MatMul"},
        {"bij,bjk->bik", {3, 3}, {{-1, -1, 4}, {-1, 4, 5}}, "MatMul"},
        {"BhqD,BhkD->Bhqk", {4, 4}, {{2, 3, 4, 5}, {2, 3, 6, 5}}, "Transpose MatMul"},
        {"bqhd,bkhd->bhqk", {4, 4}, {{2, 4, 3, 5}, {2, 6, 3, 5}}, "Transpose Transpose MatMul"},
        {"nhwc,cd->nhwd", {4, 2}, {{2, 3, 4, 5}, {5, 6}}, "Reshape MatMul Reshape"},
        {"bhwc,hkc->bhwk",
         {4, 3},
         {{2, 3, 4, 5}, {3, 6, 5}},
         "Transpose Reshape Transpose MatMul Reshape Transpose"},
        {"bij,bj->bi", {3, 2}, {{2, 3, 4}, {2, 4}}, "Reshape MatMul Reshape"},
        {"i,i->", {1, 1}, {{4}, {4}}, "Reshape Reshape MatMul Reshape"},
        {"abij,ijk->abk", {4, 3}, {{2, 3, 4, 5}, {4, 5, 6}}, "Reshape Reshape MatMul Reshape"},
    };
    (void)state;
    check_all(rows, sizeof rows / sizeof *rows);
}

/* Sums over one operand, repeated labels, outer products, dimensions of 1 that are repeated in a
 * sum, and what is not known before a run stay what they are. */
static void test_others(void **state)
{
    static const row rows[] = {
        {"ij,jk->k", {2, 2}, {{3, 4}, {4, 5}}, "Einsum"},
        {"ii,ij->j", {2, 2}, {{3, 3}, {3, 5}}, "Einsum"},
        {"i,j->ij", {1, 1}, {{3}, {4}}, "Einsum"},
        {"ij,ij->ij", {2, 2}, {{3, 4}, {3, 4}}, "Einsum"},
        {"ij,jk->ik", {2, 2}, {{3, 1}, {4, 5}}, "Einsum"},
        {"ij,jk->ik", {2, 2}, {{3, -1}, {-1, 5}}, "Einsum"},
        {"ij,jk", {2, 2}, {{3, 4}, {4, 5}}, "Einsum"},
        {"...ij,...jk->...ik", {3, 3}, {{2, 3, 4}, {2, 4, 5}}, "Einsum"},
        {"bhwc,hkc->bhwk", {4, 3}, {{-1, 3, 4, 5}, {3, 6, 5}}, "Einsum"},
        {"ij,jk->ik", {2, 2}, {{0, 4}, {4, 5}}, "MatMul"},
    };
    (void)state;
    check_all(rows, sizeof rows / sizeof *rows);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_products),
        cmocka_unit_test(test_others),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
