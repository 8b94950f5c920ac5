foreach(module record layer pack manifest frame bitflip malformed format_nomem)
	lb_test(unit.${module} unit/test_${module}.c DEPS replicator)
endforeach()
target_link_options(unit_format_nomem PRIVATE -Wl,--wrap=malloc,--wrap=calloc)
lb_test(golden.formats golden/test_formats.c DEPS replicator
	ARGS ${CMAKE_CURRENT_SOURCE_DIR}/golden/formats)
target_include_directories(golden_formats PRIVATE ${PROJECT_SOURCE_DIR}/replicator/src)

# The folder's seeds are made by seed_formats (built, not run: it writes into the source tree).
add_executable(seed_formats EXCLUDE_FROM_ALL fuzz/seed_formats.c)
target_link_libraries(seed_formats PRIVATE testlib replicator lb_flags)
target_include_directories(seed_formats PRIVATE ${PROJECT_SOURCE_DIR}/replicator/src)
foreach(format frame record layer pack manifest)
	lb_fuzz(${format} fuzz/fuzz_${format}.c DEPS replicator)
	target_include_directories(fuzz_${format} PRIVATE ${CMAKE_CURRENT_SOURCE_DIR}/lib)
endforeach()

lb_fuzz(draft fuzz/fuzz_draft.c DEPS testlib replicator)
target_include_directories(fuzz_draft PRIVATE ${PROJECT_SOURCE_DIR}/replicator/src)
lb_fuzz(word_delta fuzz/fuzz_word_delta.c DEPS testlib replicator)
target_include_directories(fuzz_word_delta PRIVATE ${PROJECT_SOURCE_DIR}/replicator/src)

find_package(Python3 REQUIRED COMPONENTS Interpreter)
add_test(NAME lint.docs COMMAND ${Python3_EXECUTABLE} ${PROJECT_SOURCE_DIR}/tools/check-docs.py
	${PROJECT_SOURCE_DIR} --self-test)
set_tests_properties(lint.docs PROPERTIES LABELS lint)
add_test(NAME golden.vectors COMMAND ${Python3_EXECUTABLE} ${CMAKE_CURRENT_SOURCE_DIR}/golden/check_vectors.py
	${CMAKE_CURRENT_SOURCE_DIR}/golden/formats)
set_tests_properties(golden.vectors PROPERTIES LABELS golden)
