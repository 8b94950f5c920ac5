find_package(Python3 REQUIRED COMPONENTS Interpreter)
add_test(NAME lint.layers COMMAND ${Python3_EXECUTABLE} ${PROJECT_SOURCE_DIR}/tools/check-layers.py ${PROJECT_SOURCE_DIR})
set_tests_properties(lint.layers PROPERTIES LABELS lint)
