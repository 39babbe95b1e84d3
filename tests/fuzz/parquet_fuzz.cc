// Parquet files: rows, or one Error.
#include "hostile_input.h"
#include "tessera/tasks/parquet/parquet.h"

void tessera::read_hostile_input(std::string_view input) {
  read_parquet(file_of(input));
}
