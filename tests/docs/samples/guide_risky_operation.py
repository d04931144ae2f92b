from doeff import do, sync_run, sync_handlers_preset

@do
def risky_operation():
    raise ValueError("Something went wrong")
    return 42  # Never reached

result = sync_run(risky_operation(), sync_handlers_preset)

# Check result - NOTE: is_ok() and is_err() are METHODS, not properties!
if result.is_ok():
    print(f"Success: {result.value}")
else:
    print(f"Error: {result.error}")

    # Access debugging information
    print(result.format())  # Condensed output
    print(result.format(verbose=True))  # Full debugging output

    # Individual stack traces
    print(result.python_stack.format())   # Python source locations
    print(result.effect_stack.format())   # Effect call tree
    print(result.k_stack.format())        # Continuation stack
