package metrics

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// write writes a file atomically and durably. A folder that was removed is created again.
func write(path string, content []byte) error {
	err := replace(path, content)
	if errors.Is(err, fs.ErrNotExist) {
		if err = os.MkdirAll(filepath.Dir(path), 0o700); err == nil {
			err = replace(path, content)
		}
	}
	if err == nil {
		syncFolder(filepath.Dir(path))
	}
	return err
}

// replace writes a file atomically.
func replace(path string, content []byte) error {
	scratch := path + ".new"
	file, err := os.OpenFile(scratch, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(content)
	if err == nil {
		err = file.Sync()
	}
	if closed := file.Close(); err == nil {
		err = closed
	}
	if err == nil {
		err = os.Rename(scratch, path)
	}
	if err != nil {
		_ = os.Remove(scratch)
	}
	return err
}

// syncFolder makes a rename durable, if the system supports it.
func syncFolder(path string) {
	if folder, err := os.Open(path); err == nil {
		_ = folder.Sync()
		_ = folder.Close()
	}
}

func cutSuffix(text, suffix string) (string, bool) { // strings.CutSuffix came with Go 1.20
	return strings.TrimSuffix(text, suffix), strings.HasSuffix(text, suffix)
}
